//! The guard with what it keeps on disk, and the tasks that tend it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use tokio::net::lookup_host;
use tokio::task::JoinSet;

use super::gate::Gate;
use crate::bans::{self, BanList, BanStore};
use crate::clock::Clock;
use crate::config::Config;
use crate::guard::Guard;
use crate::listener::Presence;
use crate::metrics::{Metrics, StateFile};
use crate::state::{self, KnownDevices};

/// How often what has lapsed is forgotten, and what is known of devices written down.
const TEND: Duration = Duration::from_secs(5);
/// How long one name may take to be looked up.
const LOOKUP: Duration = Duration::from_secs(10);
/// Addresses of one name that are heeded.
const ADDRESSES: usize = 16;

/// Everything that outlives a request.
pub(super) struct Kept {
    pub guard: Arc<Guard>,
    pub presence: Arc<Presence>,
    bans: BanStore,
    devices: Arc<KnownDevices>,
}

impl Kept {
    /// Reads the state directory.
    ///
    /// # Errors
    ///
    /// If something in it can be neither read nor made.
    pub fn open(config: &Config, clock: Clock, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let directory = &config.state_directory;
        let key = state::key(directory)?;
        let list = Arc::new(BanList::new(config.guard.bans.capacity));
        let path = directory.join(bans::FILE_NAME);
        let bans = BanStore::open(&path, list.clone(), clock)
            .with_context(|| format!("cannot keep bans in {}", path.display()))?;
        let presence = Arc::new(Presence::default());
        let guard = Arc::new(Guard::new(clock, &key, list, metrics.clone(), presence.clone())?);
        let devices = Arc::new(KnownDevices::new(directory, clock));
        devices.restore(guard.devices());
        Ok(Self { guard, presence, bans, devices })
    }

    /// Starts what has to be done now and then.
    pub fn tend(&self, tasks: &mut JoinSet<()>, gate: &Arc<Gate>) {
        tasks.spawn(tend(gate.clone(), self.devices.clone(), self.bans.errors()));
        tasks.spawn(look_up_names(gate.clone()));
    }

    /// Writes down what is not yet on disk.
    pub fn close(self) {
        save(&self.devices, &self.guard);
        self.bans.close();
    }
}

async fn tend(gate: Arc<Gate>, devices: Arc<KnownDevices>, store_errors: Arc<AtomicU64>) {
    let mut saved = gate.guard.devices().version();
    loop {
        tokio::time::sleep(TEND).await;
        let (guard, snapshot) = (gate.guard.clone(), gate.snapshot.load_full());
        // After an attack there are hundreds of thousands of entries to look at.
        let _ = tokio::task::spawn_blocking(move || guard.sweep(&snapshot.config.guard)).await;
        gate.metrics.state_write_errors(StateFile::Bans, store_errors.load(Relaxed));
        let version = gate.guard.devices().version();
        if version != saved {
            let (devices, guard) = (devices.clone(), gate.guard.clone());
            let saving = tokio::task::spawn_blocking(move || save(&devices, &guard));
            match saving.await {
                Ok(true) => saved = version,
                Ok(false) | Err(_) => gate.metrics.state_write_failed(StateFile::Devices),
            }
        }
    }
}

fn save(devices: &KnownDevices, guard: &Guard) -> bool {
    let saved = devices.save(guard.devices());
    if let Err(error) = &saved {
        log::error!("known devices cannot be written down, a restart would forget them error={error}");
    }
    saved.is_ok()
}

/// Keeps up with what the names in `guard.never_ban` mean: a home's own address changes.
async fn look_up_names(gate: Arc<Gate>) {
    loop {
        let (names, refresh) = {
            let guard = &gate.snapshot.load().config.guard;
            (guard.never_ban.names.clone(), guard.never_ban_refresh)
        };
        let mut addresses = Vec::new();
        for name in &names {
            match look_up(name).await {
                Some(found) => addresses.extend(found),
                // What was known goes on to hold: a resolver that fails for a minute bans no home.
                None => addresses.extend(gate.guard.never_ban_addresses().iter().copied()),
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        gate.guard.set_never_ban_addresses(addresses);
        // A reload may have named others meanwhile.
        let changed = async {
            loop {
                tokio::time::sleep(TEND).await;
                if gate.snapshot.load().config.guard.never_ban.names != names {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(refresh, changed).await;
    }
}

async fn look_up(name: &str) -> Option<Vec<IpAddr>> {
    let looked = tokio::time::timeout(LOOKUP, lookup_host((name, 443))).await;
    match looked {
        Ok(Ok(found)) => Some(found.take(ADDRESSES).map(|address| address.ip()).collect()),
        Ok(Err(error)) => {
            log::warn!("name in guard.never_ban not found name={name}: {error}");
            None
        }
        Err(_) => {
            log::warn!("name in guard.never_ban not found in time name={name}");
            None
        }
    }
}
