//! Dynamic DNS: names that follow the home's public address.
//!
//! One task looks at the home's addresses again and again, and has the provider told of changes, and of nothing else.
//! Whom to believe ([`poll`]), what may be published ([`public`]) and when something is sent ([`schedule`]) are decided
//! there; here is what is done about it. Nothing is kept on disk: after a restart the zone's own servers say what stands.

mod interface;
mod poll;
mod public;
mod schedule;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::clock::Moment;
use crate::config;
use crate::dns::{Addresses, Dns};
use crate::metrics::Metrics;
use schedule::{Schedule, Step};
use source::{Clients, Family, Unknown};

/// How often it is looked whether a reload has changed something.
const GLANCE: Duration = Duration::from_secs(2);
/// Names that are cared for side by side: one provider that hangs does not keep all others waiting.
const AT_ONCE: usize = 4;

/// What is known of the names that are kept pointed at this home.
pub struct DynamicDns {
    metrics: Arc<Metrics>,
    clients: OnceCell<Clients>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of the configured names only.
    names: BTreeMap<String, Schedule>,
    ipv4: Belief,
    ipv6: Belief,
    /// Looks in a row that have found no address of either family.
    in_vain: u32,
    /// Why nobody can be asked.
    clients_error: Option<String>,
}

/// What is known of the home's address of one family.
#[derive(Default)]
struct Belief {
    /// The last that was learnt.
    address: Option<IpAddr>,
    /// Why it may no longer be right.
    unknown: Option<Unknown>,
}

/// What the configuration in force says.
pub struct Settings {
    pub config: config::DynamicDns,
    pub dns: Arc<Dns>,
}

/// A picture for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order of the alphabet.
    pub names: Vec<NameReport>,
    /// Why an address of the home is not known, each a sentence.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameReport {
    pub name: String,
    /// What its records hold, as far as is known.
    pub records: Addresses,
    /// When the gate has set them last.
    pub last_change: Option<Moment>,
    /// What the provider said last, and when it is asked again.
    pub trouble: Option<(String, Moment)>,
}

impl DynamicDns {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, clients: OnceCell::new(), state: Mutex::default() }
    }

    /// Keeps the names of the configuration in force pointed at this home, for ever. A reload is heeded within seconds.
    pub async fn tend(&self, settings: impl Fn() -> Settings, now: impl Fn() -> Moment + Sync) {
        let mut current = settings();
        loop {
            let began = now();
            self.look(&current, &now).await;
            let wake = self.wake(&current, began, now());
            let reloaded = loop {
                let newest = settings();
                if !newest.is_like(&current) {
                    break Some(newest);
                }
                let pause = now().until(wake);
                if pause.is_zero() {
                    break None;
                }
                tokio::time::sleep(pause.min(GLANCE)).await;
            };
            if let Some(reloaded) = reloaded {
                self.state.lock().names.values_mut().for_each(Schedule::begin_anew);
                current = reloaded;
            }
        }
    }

    /// What the operator is shown; empty without configured names.
    pub fn report(&self) -> Report {
        let state = self.state.lock();
        let names = state.names.iter().map(|(name, schedule)| NameReport {
            name: name.clone(),
            records: schedule.records(),
            last_change: schedule.last_change(),
            trouble: schedule.trouble().map(|(error, until)| (error.to_owned(), until)),
        });
        let unknown = [&state.ipv4, &state.ipv6].into_iter().filter_map(|belief| belief.unknown.as_ref());
        let problems = state.clients_error.iter().cloned().chain(unknown.map(Unknown::to_string));
        Report { names: names.collect(), problems: problems.collect() }
    }

    /// Looks at the home's addresses once, and does for each name what is due.
    async fn look(&self, settings: &Settings, now: &(impl Fn() -> Moment + Sync)) {
        let config = &settings.config;
        self.follow(&config.names);
        if config.names.is_empty() {
            return;
        }
        let Some(clients) = self.clients().await else { return };
        let (ipv4, ipv6) = tokio::join!(
            self.learn(clients, &config.ipv4, Family::Ipv4),
            self.learn(clients, &config.ipv6, Family::Ipv6)
        );
        let home = Addresses {
            ipv4: ipv4.and_then(|address| if let IpAddr::V4(v4) = address { Some(v4) } else { None }),
            ipv6: ipv6.and_then(|address| if let IpAddr::V6(v6) = address { Some(v6) } else { None }),
        };
        self.state.lock().note(home);
        stream::iter(&config.names).for_each_concurrent(AT_ONCE, |name| self.keep(name, home, settings, now)).await;
    }

    /// Forgets names that are no longer configured, and takes up those that are new.
    fn follow(&self, names: &[String]) {
        let mut state = self.state.lock();
        state.names.retain(|name, _| {
            let stays = names.contains(name);
            if !stays {
                self.metrics.dynamic_dns.forget(name);
            }
            stays
        });
        for name in names.iter().filter(|name| !state.names.contains_key(*name)).collect::<Vec<_>>() {
            self.metrics.dynamic_dns.follow(name);
            state.names.insert(name.clone(), Schedule::default());
        }
        if names.is_empty() {
            *state = State::default();
        }
    }

    /// Made when they are first needed, since most homes have no use for them.
    async fn clients(&self) -> Option<&Clients> {
        let make = || async {
            let made = tokio::task::spawn_blocking(Clients::new).await;
            made.unwrap_or_else(|_| Err("the gate has a bug".into()))
        };
        let made = self.clients.get_or_try_init(make).await;
        let error = made.as_ref().err().map(|error| format!("nobody can be asked for the home's address: {error}"));
        let before = mem::replace(&mut self.state.lock().clients_error, error.clone());
        if let Some(error) = error.filter(|error| before.as_ref() != Some(error)) {
            log::error!("dynamic DNS stands still: {error}");
        }
        made.ok()
    }

    /// The home's address of one family, if it is known now.
    async fn learn(&self, clients: &Clients, sources: &[config::AddressSource], family: Family) -> Option<IpAddr> {
        if sources.is_empty() {
            *self.state.lock().belief(family) = Belief::default();
            return None;
        }
        let believed = self.state.lock().belief(family).address;
        let learnt = clients.learn(sources, family, believed).await;
        let mut state = self.state.lock();
        let belief = state.belief(family);
        match learnt {
            Ok(address) => {
                if belief.unknown.take().is_some() || belief.address != Some(address) {
                    log::info!("public address of this home family={family} address={address}");
                }
                belief.address = Some(address);
                Some(address)
            }
            Err(unknown) => {
                let kind = mem::discriminant(&unknown);
                if belief.unknown.as_ref().is_none_or(|before| mem::discriminant(before) != kind) {
                    // Many a home has no IPv6, and never had.
                    let level = match (family, believed) {
                        (Family::Ipv6, None) => log::Level::Info,
                        (Family::Ipv4 | Family::Ipv6, _) => log::Level::Warn,
                    };
                    log::log!(level, "dynamic DNS: {unknown}");
                }
                belief.unknown = Some(unknown);
                None
            }
        }
    }

    /// Does what is due for one name.
    async fn keep(&self, name: &str, home: Addresses, settings: &Settings, now: &(impl Fn() -> Moment + Sync)) {
        if self.step(name, home, now()) == Step::Compare {
            self.compare(name, home, &settings.dns, now).await;
        }
        let Step::Point(addresses) = self.step(name, home, now()) else { return };
        let pointed = settings.dns.point(name, addresses).await;
        let mut state = self.state.lock();
        let Some(schedule) = state.names.get_mut(name) else { return };
        match pointed {
            Ok(()) => {
                log::info!("dynamic DNS: {name} now points here {}", Shown(addresses));
                if schedule.pointed(addresses, now(), random()) {
                    log::warn!("dynamic DNS: the home's address changes too often, {name} follows within an hour");
                }
                self.metrics.dynamic_dns.updated(name, since_epoch());
            }
            Err(error) => {
                self.metrics.dynamic_dns.failed(name);
                let error = error.to_string();
                if schedule.failed(error.clone(), settings.config.interval, now(), random()) {
                    let again = now().until(schedule.due()).as_secs();
                    log::error!("dynamic DNS: {name} could not be pointed here, next try in {again} s: {error}");
                }
            }
        }
    }

    /// Sees what the zone's servers answer.
    async fn compare(&self, name: &str, home: Addresses, dns: &Dns, now: &(impl Fn() -> Moment + Sync)) {
        let found = dns.addresses(name).await;
        if let Err(error) = &found {
            log::info!("dynamic DNS: what {name} points at cannot be seen: {error}");
        }
        let mut state = self.state.lock();
        let Some(schedule) = state.names.get_mut(name) else { return };
        let is_seen = found.is_ok();
        schedule.compared(found.ok(), now(), random());
        if is_seen && schedule.step(home, now()) == Step::Nothing {
            self.metrics.dynamic_dns.found_right(name, since_epoch());
        }
    }

    fn step(&self, name: &str, home: Addresses, now: Moment) -> Step {
        self.state.lock().names.get(name).map_or(Step::Nothing, |schedule| schedule.step(home, now))
    }

    /// When to look again: when it is time, or when a name is due.
    fn wake(&self, settings: &Settings, began: Moment, now: Moment) -> Moment {
        if settings.config.names.is_empty() {
            return Moment::NEVER;
        }
        let state = self.state.lock();
        let next = began + schedule::pause(settings.config.interval, state.in_vain, random());
        // What is due already could not be done just now.
        let due = state.names.values().map(Schedule::due).filter(|due| *due > now).min();
        due.map_or(next, |due| due.min(next))
    }
}

impl State {
    /// A look has found these addresses.
    fn note(&mut self, home: Addresses) {
        self.in_vain = if home == Addresses::default() { self.in_vain.saturating_add(1) } else { 0 };
    }

    fn belief(&mut self, family: Family) -> &mut Belief {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

impl Settings {
    /// Whether nothing has changed: accounts are carried over a reload that leaves them alone.
    fn is_like(&self, other: &Self) -> bool {
        self.config == other.config && Arc::ptr_eq(&self.dns, &other.dns)
    }
}

/// Addresses as fields of a log line.
struct Shown(Addresses);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ipv4 = self.0.ipv4.map(|address| format!("ipv4={address}"));
        let ipv6 = self.0.ipv6.map(|address| format!("ipv6={address}"));
        f.write_str(&ipv4.into_iter().chain(ipv6).collect::<Vec<_>>().join(" "))
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// To spread what many homes do; without randomness they do it together.
fn random() -> u8 {
    let mut byte = [0];
    aws_lc_rs::rand::fill(&mut byte).map_or(0, |()| byte[0])
}
