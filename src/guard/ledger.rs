//! Failed logins: of each client, of the networks around it, and of each account.
//!
//! Distinct credentials count: the same stale token a thousand times is one failure. An attempt takes its place before
//! the answer is known, so a burst of parallel guesses gets no more answers than as many one after another.

use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use super::Who;
use super::rate_limit::{Bucket, Limit};
use super::table::{Lapse, Table};
use crate::clock::Moment;
use crate::config::LoginLimits;
use crate::metrics::Fill;

/// One attempt, as far as counting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guess {
    pub who: Who,
    /// A short fingerprint of what was tried.
    pub credential: u64,
    /// A short fingerprint of the account it was tried on, if that is known.
    pub account: Option<u64>,
    /// Requests that carry the same credential at once are one attempt: nothing more is learnt by the second answer.
    pub is_shared: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Failed,
    Succeeded,
    /// Neither: the application did not judge it, or it was no guess.
    Unjudged,
}

/// Why an attempt has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The client has failed too often, or has too many attempts in flight.
    Client(Duration),
    /// The account was tried too often, by whomever.
    Account(Duration),
}

/// What a failure has led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Toll {
    /// Distinct failures of the client within the window.
    pub failures: usize,
    /// The client has used up its failures.
    pub exhausted: bool,
    /// Wider networks that have used up theirs.
    pub exhausted_networks: Vec<IpNet>,
}

/// How much more often than one client a /56 and a /48 may fail: as often as four and as sixteen clients.
const WIDER: [(u8, u32); 2] = [(56, 4), (48, 16)];
/// An attempt that meets others in flight may come again so soon.
const IN_FLIGHT_WAIT: Duration = Duration::from_secs(1);

/// All that is known of failures. Bounded: about 12 MiB at its fullest; half a MiB more for each failure by which
/// `max_failures` is above its default.
#[derive(Debug)]
pub struct Ledger {
    clients: Table<Who, Tally>,
    networks: Table<IpNet, Bucket>,
    accounts: Table<u64, Account>,
}

/// With as many failures as are not yet a ban, 300,000 guesses are remembered: 500 a second for the usual window.
const CLIENTS: usize = 32_768;
const NETWORKS: usize = 32_768;
const ACCOUNTS: usize = 16_384;

impl Default for Ledger {
    fn default() -> Self {
        Self { clients: Table::new(CLIENTS), networks: Table::new(NETWORKS), accounts: Table::new(ACCOUNTS) }
    }
}

impl Ledger {
    /// A quarter of the size, for what nobody guesses in earnest.
    pub fn small() -> Self {
        Self { clients: Table::new(CLIENTS / 4), networks: Table::new(NETWORKS / 4), accounts: Table::new(64) }
    }

    /// Takes a place for an attempt, until [`end`](Self::end).
    ///
    /// # Errors
    ///
    /// If it has to wait.
    pub fn begin(&self, guess: &Guess, limits: &LoginLimits, now: Moment) -> Result<(), Wait> {
        self.clients
            .update(guess.who, now, Tally::default, |tally| tally.begin(guess, limits, now))
            .map_err(Wait::Client)?;
        // A known device is not slowed by what others do to its account.
        let Some(account) = guess.account.filter(|_| guess.who.is_stranger()) else { return Ok(()) };
        let begun = self.accounts.update(account, now, Account::default, |account| account.begin(limits, now));
        begun.map_err(|wait| {
            self.clients.change(&guess.who, |tally| tally.leave(guess));
            Wait::Account(wait)
        })
    }

    /// Takes a place for an attempt, whether or not it would have to wait.
    pub fn force(&self, guess: &Guess, now: Moment) {
        self.clients.update(guess.who, now, Tally::default, |tally| tally.enter(guess));
        if let Some(account) = guess.account.filter(|_| guess.who.is_stranger()) {
            self.accounts.update(account, now, Account::default, |account| account.in_flight += 1);
        }
    }

    /// Gives the place back and counts what came of it.
    pub fn end(&self, guess: &Guess, end: End, limits: &LoginLimits, now: Moment) -> Toll {
        if let Some(account) = guess.account.filter(|_| guess.who.is_stranger()) {
            self.accounts.change(&account, |account| account.end(end, limits, now));
        }
        // An entry with places taken is the last to be forgotten, but a flood may do even that.
        let end_tally = |tally: &mut Tally| tally.end(guess, end, limits, now);
        let (fresh, failures) = self.clients.update(guess.who, now, Tally::default, end_tally);
        if !fresh {
            return Toll { failures, ..Toll::default() };
        }
        Toll {
            failures,
            exhausted: failures >= limits.max_failures as usize,
            exhausted_networks: self.count_networks(guess.who, limits, now),
        }
    }

    fn count_networks(&self, who: Who, limits: &LoginLimits, now: Moment) -> Vec<IpNet> {
        let Who::Client(client) = who else { return Vec::new() };
        let is_past = |network: &IpNet| {
            let factor =
                WIDER.iter().find(|(prefix, _)| *prefix == network.prefix_len()).map_or(1, |(_, factor)| *factor);
            let count = limits.max_failures.saturating_mul(factor);
            let limit = Limit::new(count, limits.window, count);
            self.networks.update(*network, now, Bucket::default, |bucket| {
                // What does not fit is past the limit; what just fits is the last that does.
                bucket.take(limit, now).is_err() || bucket.left(limit, now) == 0
            })
        };
        client.wider().filter(is_past).collect()
    }

    /// Distinct failures within the window, and attempts in flight.
    pub fn standing(&self, who: Who, limits: &LoginLimits, now: Moment) -> (usize, usize) {
        let look = |tally: &Tally| (tally.recent(limits, now).count(), tally.in_flight.len());
        self.clients.peek(&who, look).unwrap_or_default()
    }

    /// Forgets the failures around a network, after its ban was lifted.
    pub fn forgive_network(&self, network: &IpNet) {
        self.networks.remove(network);
    }

    /// Whether a client has used up its failures.
    pub fn is_exhausted(&self, who: Who, limits: &LoginLimits, now: Moment) -> bool {
        self.standing(who, limits, now).0 >= limits.max_failures as usize
    }

    /// How long a client has to wait before its next attempt, if it is throttled.
    pub fn wait_of(&self, who: Who, limits: &LoginLimits, now: Moment) -> Option<Duration> {
        let look = |tally: &Tally| {
            let is_throttled = tally.recent(limits, now).count() >= limits.max_failures as usize;
            (is_throttled && tally.throttle.until > now).then(|| now.until(tally.throttle.until))
        };
        self.clients.peek(&who, look).flatten()
    }

    /// Forgets the failures of one client, after its ban was lifted.
    pub fn forgive(&self, who: Who) {
        self.clients.change(&who, |tally| {
            tally.failures = Vec::new();
            tally.throttle = Throttle::default();
        });
    }

    /// Forgets what no longer counts.
    pub fn sweep(&self, now: Moment) {
        self.clients.sweep(now);
        self.networks.sweep(now);
        self.accounts.sweep(now);
    }

    /// How full all stores are.
    pub fn fill(&self) -> Fill {
        [self.clients.fill(), self.networks.fill(), self.accounts.fill()].into_iter().sum()
    }

    /// Accounts that strangers have to wait for now.
    pub fn throttled_accounts(&self, now: Moment) -> usize {
        let mut count = 0;
        self.accounts.for_each(|_, account| count += usize::from(account.throttle.until > now));
        count
    }
}

/// In sixteen bytes: strangers make us remember half a million of them.
#[derive(Debug, Clone, Copy)]
struct Failure {
    credential: u64,
    account: Option<AccountTag>,
    /// In whole seconds since the start, rounded down.
    at: u32,
}

/// Half of an account's fingerprint: enough to tell a client's own failures apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AccountTag(NonZeroU32);

impl AccountTag {
    fn of(guess: &Guess) -> Option<Self> {
        NonZeroU32::new(guess.account? as u32).map(Self)
    }
}

impl Failure {
    fn new(guess: &Guess, now: Moment) -> Self {
        Self { credential: guess.credential, account: AccountTag::of(guess), at: seconds(now) }
    }

    fn is_recent(&self, limits: &LoginLimits, now: Moment) -> bool {
        now.since(Moment::START + Duration::from_secs(self.at.into())) < limits.window
    }
}

fn seconds(moment: Moment) -> u32 {
    u32::try_from(moment.since(Moment::START).as_secs()).unwrap_or(u32::MAX)
}

/// One client's failures and attempts.
#[derive(Debug, Default)]
struct Tally {
    /// At most `max_failures`; one for each distinct credential.
    failures: Vec<Failure>,
    in_flight: Vec<InFlight>,
    throttle: Throttle,
    lapses: Moment,
}

/// An attempt under way, or as many as share one credential.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    credential: u64,
    is_shared: bool,
    count: u32,
}

impl Lapse for Tally {
    fn lapses(&self) -> Moment {
        if self.in_flight.is_empty() { self.lapses } else { Moment::NEVER }
    }
}

impl Tally {
    fn begin(&mut self, guess: &Guess, limits: &LoginLimits, now: Moment) -> Result<(), Duration> {
        if self.shared(guess).is_some() {
            self.enter(guess);
            return Ok(());
        }
        self.failures.retain(|failure| failure.is_recent(limits, now));
        if self.failures.len() >= limits.max_failures as usize {
            // Not banned, since it may not be or bans are off: one attempt after another, ever more slowly.
            self.throttle.pass(limits, now)?;
        } else if self.failures.len() + self.in_flight.len() >= limits.max_failures as usize {
            return Err(IN_FLIGHT_WAIT);
        }
        self.enter(guess);
        Ok(())
    }

    fn shared(&mut self, guess: &Guess) -> Option<&mut InFlight> {
        let is_same = |other: &&mut InFlight| other.is_shared && other.credential == guess.credential;
        self.in_flight.iter_mut().find(is_same).filter(|_| guess.is_shared)
    }

    fn enter(&mut self, guess: &Guess) {
        match self.shared(guess) {
            Some(shared) => shared.count += 1,
            None => {
                let Guess { credential, is_shared, .. } = *guess;
                self.in_flight.push(InFlight { credential, is_shared, count: 1 });
            }
        }
    }

    fn leave(&mut self, guess: &Guess) {
        let is_same = |other: &InFlight| (other.credential, other.is_shared) == (guess.credential, guess.is_shared);
        let Some(at) = self.in_flight.iter().position(is_same) else { return };
        self.in_flight[at].count -= 1;
        if self.in_flight[at].count == 0 {
            self.in_flight.swap_remove(at);
        }
        if self.in_flight.is_empty() {
            self.in_flight = Vec::new(); // who is quiet costs nothing
        }
    }

    /// Whether it is a failure not counted before, and how many there are.
    fn end(&mut self, guess: &Guess, end: End, limits: &LoginLimits, now: Moment) -> (bool, usize) {
        self.leave(guess);
        match end {
            End::Unjudged => {}
            // Whoever got in has mistyped before; what was tried on other accounts stays.
            End::Succeeded => {
                let account = AccountTag::of(guess);
                self.failures.retain(|failure| failure.account.is_none() || failure.account != account);
            }
            End::Failed => return (self.fail(guess, limits, now), self.recent(limits, now).count()),
        }
        (false, self.recent(limits, now).count())
    }

    fn fail(&mut self, guess: &Guess, limits: &LoginLimits, now: Moment) -> bool {
        self.lapses = now + limits.window;
        if let Some(known) = self.failures.iter_mut().find(|failure| failure.credential == guess.credential) {
            known.at = seconds(now);
            return false;
        }
        self.failures.retain(|failure| failure.is_recent(limits, now));
        if self.failures.len() >= limits.max_failures as usize {
            self.throttle.fail(limits, now);
            self.lapses = self.lapses.max(self.throttle.lapses(limits));
            self.failures.remove(0);
        }
        // To the byte: a vector that doubles would take half as much again.
        self.failures.reserve_exact(1);
        self.failures.push(Failure::new(guess, now));
        true
    }

    fn recent(&self, limits: &LoginLimits, now: Moment) -> impl Iterator<Item = &Failure> {
        self.failures.iter().filter(move |failure| failure.is_recent(limits, now))
    }
}

/// One attempt after another, each after twice the time.
#[derive(Debug, Default)]
struct Throttle {
    level: u32,
    until: Moment,
}

impl Throttle {
    fn delay(&self, limits: &LoginLimits) -> Duration {
        limits.delay.saturating_mul(2u32.saturating_pow(self.level)).min(limits.max_delay)
    }

    /// Lets one pass and the next ones wait.
    fn pass(&mut self, limits: &LoginLimits, now: Moment) -> Result<(), Duration> {
        if self.until > now {
            return Err(now.until(self.until));
        }
        if now.since(self.until) > limits.window {
            self.level = 0;
        }
        self.until = now + self.delay(limits);
        Ok(())
    }

    fn fail(&mut self, limits: &LoginLimits, now: Moment) {
        self.level = (self.level + 1).min(32);
        self.until = now + self.delay(limits);
    }

    fn lapses(&self, limits: &LoginLimits) -> Moment {
        self.until + limits.window
    }
}

/// Failures on one account, by strangers.
#[derive(Debug, Default)]
struct Account {
    failures: Bucket,
    in_flight: u32,
    throttle: Throttle,
    lapses: Moment,
}

impl Lapse for Account {
    fn lapses(&self) -> Moment {
        if self.in_flight > 0 { Moment::NEVER } else { self.lapses }
    }
}

impl Account {
    fn limit(limits: &LoginLimits) -> Limit {
        Limit::new(limits.account_failures, limits.account_window, limits.account_failures)
    }

    fn begin(&mut self, limits: &LoginLimits, now: Moment) -> Result<(), Duration> {
        let left = self.failures.left(Self::limit(limits), now);
        if left == 0 {
            self.throttle.pass(limits, now)?;
        } else if self.in_flight >= left {
            return Err(IN_FLIGHT_WAIT);
        }
        self.in_flight += 1;
        Ok(())
    }

    fn end(&mut self, end: End, limits: &LoginLimits, now: Moment) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if end != End::Failed {
            return;
        }
        if self.failures.take(Self::limit(limits), now).is_err() {
            self.throttle.fail(limits, now);
        }
        self.lapses = (now + limits.account_window).max(self.throttle.lapses(limits));
    }
}

#[cfg(test)]
mod tests;
