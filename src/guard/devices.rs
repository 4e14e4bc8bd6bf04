//! Who has proven a session: credentials that Home Assistant has accepted, and the addresses they came from.
//!
//! Nobody enters without a success, so strangers can neither fill these tables nor push anyone out of them. What failed
//! is remembered beside it, so that the same stale token is not asked about again and again.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::fingerprint::Fingerprint;
use super::table::{Lapse, Table};
use crate::client::ClientKey;
use crate::clock::Moment;
use crate::metrics::Fill;

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
    /// It was accepted once, and refused since, lately so often: worth nothing, but no guess either.
    Revoked {
        times: u32,
    },
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
    /// From when on nobody remembers that it was good.
    pub lapses: Moment,
}

/// How long a credential whose time is over is remembered as one that was good: as long as it was believed, between these.
/// Each device leaves an access token behind every half hour.
const REMEMBERED: [Duration; 2] = [Duration::from_secs(24 * 3600), Duration::from_secs(30 * 24 * 3600)];

impl Lapse for Proof {
    fn lapses(&self) -> Moment {
        self.lapses
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

/// When a session was proven last, and by which device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proven {
    pub at: Moment,
    pub device: u64,
}

impl Lapse for Proven {
    fn lapses(&self) -> Moment {
        self.at + HOME_FOR
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
        let times = || {
            let times = |refused: &Refused| if refused.lapses > now { refused.times } else { 0 };
            self.refused.peek(&credential, times).unwrap_or_default()
        };
        match self.proofs.peek(&credential, |proof| *proof) {
            Some(Proof { revoked: true, .. }) => Credit::Revoked { times: times() },
            Some(Proof { device, until, .. }) if until > now => Credit::Good { device },
            Some(Proof { device, .. }) => Credit::Expired { device },
            None => match times() {
                0 => Credit::Unknown,
                times => Credit::Bad { times },
            },
        }
    }

    /// Whether a credential is a known device's: good, or good until its time was over.
    pub fn knows(&self, credential: Fingerprint, now: Moment) -> bool {
        matches!(self.credit(credential, now), Credit::Good { .. } | Credit::Expired { .. })
    }

    /// A credential was accepted: believed for `lifetime`. It keeps the device it belongs to, unless that was revoked.
    pub fn prove(&self, credential: Fingerprint, device: u64, lifetime: Duration, now: Moment) -> u64 {
        self.refused.remove(&credential);
        self.version.fetch_add(1, Relaxed);
        let fresh = || Proof { device, until: now, revoked: false, lapses: now };
        self.proofs.update(credential, now, fresh, |proof| {
            if std::mem::take(&mut proof.revoked) {
                proof.device = device;
            }
            proof.until = now + lifetime;
            proof.lapses = proof.until + lifetime.clamp(REMEMBERED[0], REMEMBERED[1]);
            proof.device
        })
    }

    /// A device has proven a session there.
    pub fn prove_home(&self, home: Home, device: u64, now: Moment) {
        for home in [home, Home { host: ANY_HOST, ..home }] {
            self.homes.update(home, now, Proven::default, |proven| *proven = Proven { at: now, device });
        }
    }

    /// Whether a session was proven from this address at `host` in the last `within`.
    pub fn is_home(&self, client: ClientKey, host: u32, within: Duration, now: Moment) -> bool {
        self.homes.peek(&Home { client, host }, |proven| now.since(proven.at) < within).unwrap_or(false)
    }

    /// The same at whatever host.
    pub fn is_anyones_home(&self, client: ClientKey, within: Duration, now: Moment) -> bool {
        self.is_home(client, ANY_HOST, within, now)
    }

    /// A credential was refused: out of the lane at once. How often it has been, and whether it was good once.
    pub fn refuse(&self, credential: Fingerprint, now: Moment) -> Credit {
        let was_good = self.proofs.change(&credential, |proof| proof.revoked = true).is_some();
        if was_good {
            self.version.fetch_add(1, Relaxed);
        }
        let times = self.refused.update(credential, now, Refused::default, |refused| {
            if refused.lapses <= now {
                *refused = Refused { times: 0, lapses: now + REFUSED_FOR };
            }
            refused.times = refused.times.saturating_add(1);
            refused.times
        });
        if was_good { Credit::Revoked { times } } else { Credit::Bad { times } }
    }

    /// Everything a device has proven is void, the addresses it was at included.
    pub fn revoke_device(&self, device: u64) {
        self.version.fetch_add(1, Relaxed);
        self.proofs.retain(|_, proof| {
            proof.revoked |= proof.device == device;
            true
        });
        self.homes.retain(|_, proven| proven.device != device);
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

    /// How full all stores are.
    pub fn fill(&self) -> Fill {
        [self.proofs.fill(), self.refused.fill(), self.homes.fill()].into_iter().sum()
    }

    /// Devices that have a credential, and have not been revoked.
    pub fn devices(&self) -> usize {
        let mut devices = HashSet::new();
        self.proofs.for_each(|_, proof| {
            if !proof.revoked {
                devices.insert(proof.device);
            }
        });
        devices.len()
    }

    /// The addresses from which a session was proven in the last `within`.
    pub fn homes(&self, within: Duration, now: Moment) -> Vec<ClientKey> {
        let mut homes = Vec::new();
        self.homes.for_each(|home, proven| {
            if home.host == ANY_HOST && now.since(proven.at) < within {
                homes.push(home.client);
            }
        });
        homes
    }

    /// What outlives the process.
    pub fn for_each(&self, look: &mut impl FnMut(Kept)) {
        self.proofs.for_each(|credential, proof| look(Kept::Proof(*credential, *proof)));
        self.homes.for_each(|home, proven| look(Kept::Home(*home, *proven)));
    }

    /// Puts back what an earlier process has written down.
    pub fn restore(&self, kept: Kept, now: Moment) {
        match kept {
            Kept::Proof(credential, proof) if proof.lapses() > now => {
                self.proofs.update(credential, now, || proof, |_| ());
            }
            Kept::Home(home, proven) if proven.lapses() > now => {
                self.homes.update(home, now, || proven, |_| ());
            }
            Kept::Proof(..) | Kept::Home(..) => {}
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
    Home(Home, Proven),
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
        for times in 1..4 {
            assert_eq!(devices.refuse(token, at(2)), Credit::Revoked { times });
            assert_eq!(devices.credit(token, at(2)), Credit::Revoked { times });
        }
        assert_eq!(devices.credit(token, at(3)), Credit::Revoked { times: 0 }, "and is asked about again");
        devices.prove(token, 7, HOUR, at(2));
        assert_eq!(devices.credit(token, at(2)), Credit::Good { device: 7 });
    }

    #[test]
    fn an_address_is_a_home_for_a_while_and_at_its_host() {
        let devices = Devices::default();
        let [home, neighbour] =
            ["192.0.2.1", "192.0.2.2"].map(|ip| crate::client::ClientAddr::new(ip.parse().unwrap()).key());
        devices.prove_home(Home { client: home, host: 5 }, 7, at(1));
        assert!(devices.is_home(home, 5, HOUR, at(1)));
        assert!(!devices.is_home(home, 6, HOUR, at(1)));
        assert!(devices.is_anyones_home(home, HOUR, at(1)));
        assert!(!devices.is_home(home, 5, HOUR, at(2)));
        assert!(devices.is_home(home, 5, 2 * HOUR, at(2)));
        assert!(!devices.is_home(home, 5, Duration::ZERO, at(1)), "zero turns it off");
        assert!(!devices.is_anyones_home(neighbour, HOUR, at(1)));
        devices.revoke_device(7);
        assert!(!devices.is_anyones_home(home, HOUR, at(1)), "its device was signed out");
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
        assert!(devices.fill().entries <= PROOFS + REFUSED);
    }

    #[test]
    fn all_of_a_device_is_void_at_once_and_its_neighbour_is_not() {
        let devices = Devices::default();
        for (token, device) in [(1, 7), (2, 7), (3, 8)] {
            devices.prove(Fingerprint(token), device, HOUR, at(0));
        }
        devices.revoke_device(7);
        assert_eq!(devices.credit(Fingerprint(1), at(0)), Credit::Revoked { times: 0 });
        assert_eq!(devices.credit(Fingerprint(2), at(0)), Credit::Revoked { times: 0 });
        assert_eq!(devices.credit(Fingerprint(3), at(0)), Credit::Good { device: 8 });
    }
}
