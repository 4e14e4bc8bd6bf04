//! Who has proven a session: credentials that Home Assistant has accepted, and the addresses they came from.
//!
//! Nobody enters without a success, so strangers can neither fill these tables nor push anyone out of them. What failed
//! is remembered beside it, so that the same stale token is not asked about again and again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::fingerprint::Fingerprint;
use super::table::{Lapse, Table};
use crate::client::ClientKey;
use crate::clock::Moment;

/// What is known of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// It was accepted, and not refused since.
    Good {
        device: u64,
    },
    /// It was accepted once, and its time is over: to be proven again, and no guess if that fails.
    Expired {
        device: u64,
    },
    /// It was accepted once, and refused since: worth nothing, but no guess either.
    Revoked,
    /// It was refused so often, and never accepted.
    Bad {
        times: u32,
    },
    Unknown,
}

/// A credential that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// All credentials of one device share it.
    pub device: u64,
    /// Until when it is believed without asking.
    pub until: Moment,
    pub revoked: bool,
}

/// How long a credential whose time is over is remembered as one that was good.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

impl Lapse for Proof {
    fn lapses(&self) -> Moment {
        self.until + REMEMBERED
    }
}

/// A credential that was refused.
#[derive(Debug, Default)]
struct Refused {
    times: u32,
    lapses: Moment,
}

impl Lapse for Refused {
    fn lapses(&self) -> Moment {
        self.lapses
    }
}

/// An address from which a session was proven, at one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Home {
    pub client: ClientKey,
    /// See [`host_id`](super::host_id).
    pub host: u32,
}

/// Stands for all hosts: whether to listen to an address at all is asked before any host is known.
const ANY_HOST: u32 = 0;

/// When a session was proven last.
#[derive(Debug, Clone, Copy, Default)]
struct Proven(Moment);

impl Lapse for Proven {
    fn lapses(&self) -> Moment {
        self.0 + HOME_FOR
    }
}

/// As long as the longest `known_device_lifetime`.
const HOME_FOR: Duration = Duration::from_secs(365 * 24 * 3600);

const PROOFS: usize = 16_384;
const REFUSED: usize = 65_536;
const HOMES: usize = 16_384;
/// After that a refused credential is asked about again: a backup may have brought it back.
const REFUSED_FOR: Duration = Duration::from_secs(3600);

/// Proofs, refusals and homes. Bounded: about 7 MiB at its fullest.
#[derive(Debug)]
pub struct Devices {
    proofs: Table<Fingerprint, Proof>,
    refused: Table<Fingerprint, Refused>,
    homes: Table<Home, Proven>,
    version: AtomicU64,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            proofs: Table::new(PROOFS),
            refused: Table::new(REFUSED),
            homes: Table::new(HOMES),
            version: AtomicU64::new(0),
        }
    }
}

impl Devices {
    /// What is known of a credential.
    pub fn credit(&self, credential: Fingerprint, now: Moment) -> Credit {
        if let Some(proof) = self.proofs.peek(&credential, |proof| *proof) {
            return match proof {
                Proof { revoked: true, .. } => Credit::Revoked,
                Proof { device, until, .. } if until > now => Credit::Good { device },
                Proof { device, .. } => Credit::Expired { device },
            };
        }
        let times = self.refused.peek(&credential, |refused| if refused.lapses > now { refused.times } else { 0 });
        match times {
            Some(times) if times > 0 => Credit::Bad { times },
            _ => Credit::Unknown,
        }
    }

    /// A credential was accepted: believed for `lifetime`. It keeps the device it belongs to already.
    pub fn prove(&self, credential: Fingerprint, device: u64, lifetime: Duration, now: Moment) -> u64 {
        self.refused.remove(&credential);
        self.version.fetch_add(1, Relaxed);
        let fresh = || Proof { device, until: now, revoked: false };
        self.proofs.update(credential, now, fresh, |proof| {
            proof.until = now + lifetime;
            proof.revoked = false;
            proof.device
        })
    }

    /// A session was proven there.
    pub fn prove_home(&self, home: Home, now: Moment) {
        for home in [home, Home { host: ANY_HOST, ..home }] {
            self.homes.update(home, now, Proven::default, |proven| proven.0 = now);
        }
    }

    /// Whether a session was proven from this address at `host` in the last `within`.
    pub fn is_home(&self, client: ClientKey, host: u32, within: Duration, now: Moment) -> bool {
        self.homes.peek(&Home { client, host }, |proven| now.since(proven.0) < within).unwrap_or(false)
    }

    /// The same at whatever host.
    pub fn is_anyones_home(&self, client: ClientKey, within: Duration, now: Moment) -> bool {
        self.is_home(client, ANY_HOST, within, now)
    }

    /// A credential was refused: out of the lane at once. How often it has been, and whether it was good once.
    pub fn refuse(&self, credential: Fingerprint, now: Moment) -> Credit {
        if self.proofs.change(&credential, |proof| proof.revoked = true).is_some() {
            self.version.fetch_add(1, Relaxed);
            return Credit::Revoked;
        }
        let times = self.refused.update(credential, now, Refused::default, |refused| {
            if refused.lapses <= now {
                *refused = Refused { times: 0, lapses: now + REFUSED_FOR };
            }
            refused.times = refused.times.saturating_add(1);
            refused.times
        });
        Credit::Bad { times }
    }

    /// Everything a device has proven is void.
    pub fn revoke_device(&self, device: u64) {
        self.version.fetch_add(1, Relaxed);
        self.proofs.retain(|_, proof| {
            proof.revoked |= proof.device == device;
            true
        });
    }

    /// Credentials believed now.
    pub fn len(&self) -> usize {
        self.proofs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.proofs.is_empty()
    }

    /// Forgets what has lapsed.
    pub fn sweep(&self, now: Moment) {
        self.proofs.sweep(now);
        self.refused.sweep(now);
        self.homes.sweep(now);
    }

    /// Entries of all stores, and how many were forgotten too early.
    pub fn size(&self) -> (usize, u64) {
        let len = self.proofs.len() + self.refused.len() + self.homes.len();
        (len, self.proofs.evictions() + self.refused.evictions() + self.homes.evictions())
    }

    /// What outlives the process.
    pub fn for_each(&self, look: &mut impl FnMut(Kept)) {
        self.proofs.for_each(|credential, proof| look(Kept::Proof(*credential, *proof)));
        self.homes.for_each(|home, proven| look(Kept::Home(*home, proven.0)));
    }

    /// Puts back what an earlier process has written down.
    pub fn restore(&self, kept: Kept) {
        match kept {
            Kept::Proof(credential, proof) => {
                self.proofs.update(credential, Moment::START, || proof, |_| ());
            }
            Kept::Home(home, proven) => {
                self.homes.update(home, Moment::START, || Proven(proven), |_| ());
            }
        }
    }

    /// Changes with every proof and revocation.
    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }
}

/// What is kept of a device beyond the end of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Proof(Fingerprint, Proof),
    /// When a session was proven there last.
    Home(Home, Moment),
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: u32) -> Moment {
        Moment::START + HOUR * hours
    }

    #[test]
    fn a_proof_is_believed_until_its_time_is_over_or_it_is_refused() {
        let devices = Devices::default();
        let token = Fingerprint(1);
        assert_eq!(devices.credit(token, at(0)), Credit::Unknown);
        assert_eq!(devices.prove(token, 7, HOUR, at(0)), 7);
        assert_eq!(devices.credit(token, at(0)), Credit::Good { device: 7 });
        assert_eq!(devices.credit(token, at(1)), Credit::Expired { device: 7 });
        assert_eq!(devices.prove(token, 9, HOUR, at(2)), 7, "it stays the same device's");
        assert_eq!(devices.refuse(token, at(2)), Credit::Revoked);
        assert_eq!(devices.credit(token, at(2)), Credit::Revoked);
        devices.prove(token, 7, HOUR, at(2));
        assert_eq!(devices.credit(token, at(2)), Credit::Good { device: 7 });
    }

    #[test]
    fn an_address_is_a_home_for_a_while_and_at_its_host() {
        let devices = Devices::default();
        let [home, neighbour] =
            ["192.0.2.1", "192.0.2.2"].map(|ip| crate::client::ClientAddr::new(ip.parse().unwrap()).key());
        devices.prove_home(Home { client: home, host: 5 }, at(1));
        assert!(devices.is_home(home, 5, HOUR, at(1)));
        assert!(!devices.is_home(home, 6, HOUR, at(1)));
        assert!(devices.is_anyones_home(home, HOUR, at(1)));
        assert!(!devices.is_home(home, 5, HOUR, at(2)));
        assert!(devices.is_home(home, 5, 2 * HOUR, at(2)));
        assert!(!devices.is_home(home, 5, Duration::ZERO, at(1)), "zero turns it off");
        assert!(!devices.is_anyones_home(neighbour, HOUR, at(1)));
    }

    #[test]
    fn refusals_are_counted_for_an_hour() {
        let devices = Devices::default();
        let token = Fingerprint(1);
        for times in 1..4 {
            assert_eq!(devices.refuse(token, at(0)), Credit::Bad { times });
            assert_eq!(devices.credit(token, at(0)), Credit::Bad { times });
        }
        assert_eq!(devices.credit(token, at(1)), Credit::Unknown);
        assert_eq!(devices.refuse(token, at(1)), Credit::Bad { times: 1 });
    }

    #[test]
    fn a_flood_of_bad_credentials_pushes_no_good_one_out() {
        let devices = Devices::default();
        devices.prove(Fingerprint(1), 7, HOUR, at(0));
        for bad in 1000..200_000 {
            devices.refuse(Fingerprint(bad), at(0));
        }
        assert_eq!(devices.credit(Fingerprint(1), at(0)), Credit::Good { device: 7 });
        assert!(devices.size().0 <= PROOFS + REFUSED);
    }

    #[test]
    fn all_of_a_device_is_void_at_once_and_its_neighbour_is_not() {
        let devices = Devices::default();
        for (token, device) in [(1, 7), (2, 7), (3, 8)] {
            devices.prove(Fingerprint(token), device, HOUR, at(0));
        }
        devices.revoke_device(7);
        assert_eq!(devices.credit(Fingerprint(1), at(0)), Credit::Revoked);
        assert_eq!(devices.credit(Fingerprint(2), at(0)), Credit::Revoked);
        assert_eq!(devices.credit(Fingerprint(3), at(0)), Credit::Good { device: 8 });
    }
}
