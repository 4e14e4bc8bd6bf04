//! What the guard keeps in the state directory besides bans: its key, and who is known.
//!
//! Fingerprints only, under the key beside them; both files are the gate's own (0600). A file that cannot be read costs
//! the household one login, so it is set aside with an error and the gate starts.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::client::ClientAddr;
use crate::clock::{Clock, Moment};
use crate::durable;
use crate::guard::devices::{Devices, Home, Kept, Proof, Proven};
use crate::guard::fingerprint::Fingerprint;

const KEY_FILE: &str = "guard.key";
const DEVICES_FILE: &str = "known-devices";
/// The first line of the file of devices.
const FORMAT: &str = "hearthgate known devices 1";
/// Beyond `known_device_lifetime`, and the month that it is remembered.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);
/// More than the tables of devices can fill.
const LARGEST: u64 = 16 * 1024 * 1024;

/// The key that signs cookies and hashes credentials; made at the first start.
///
/// # Errors
///
/// If it cannot be read or made, or is not a key.
pub fn key(directory: &Path) -> anyhow::Result<[u8; 32]> {
    let path = directory.join(KEY_FILE);
    match fs::read(&path) {
        Ok(bytes) => bytes.try_into().ok().with_context(|| {
            format!("{} is not a key of 32 bytes: remove it, and everybody has to log in once", path.display())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            aws_lc_rs::rand::fill(&mut key).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
            durable::write(&path, &key).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Where known devices outlive the process.
pub struct KnownDevices {
    path: PathBuf,
    clock: Clock,
}

impl KnownDevices {
    pub fn new(directory: &Path, clock: Clock) -> Self {
        Self { path: directory.join(DEVICES_FILE), clock }
    }

    /// Puts back what an earlier process has written. A file that is not ours is set aside.
    pub fn restore(&self, devices: &Devices) {
        let mut text = String::new();
        let read = File::open(&self.path).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) if self.restore_lines(&text, devices).is_some() => {}
            _ => self.set_aside(),
        }
    }

    fn set_aside(&self) {
        let aside = self.path.with_extension("unusable");
        let moved = fs::rename(&self.path, &aside);
        log::error!(
            "known devices cannot be read, everybody has to log in once file={} kept_as={} moved={}",
            self.path.display(),
            aside.display(),
            moved.is_ok()
        );
    }

    fn restore_lines(&self, text: &str, devices: &Devices) -> Option<()> {
        let mut lines = text.lines();
        (lines.next()? == FORMAT).then_some(())?;
        let now = self.clock.now();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["proof", credential, device, until, lapses, revoked] => {
                    let credential = Fingerprint::from_hex(credential)?;
                    let device = u64::from_str_radix(device, 16).ok()?;
                    let (until, lapses) = (self.moment(until.parse().ok()?), self.moment(lapses.parse().ok()?));
                    let proof = Proof { device, until, revoked: revoked == "revoked", lapses };
                    devices.restore(Kept::Proof(credential, proof), now);
                }
                ["home", address, host, device, at] => {
                    let address: IpAddr = address.parse().ok()?;
                    let home =
                        Home { client: ClientAddr::new(address).key(), host: u32::from_str_radix(host, 16).ok()? };
                    let at = self.moment(at.parse().ok()?).min(now);
                    let proven = Proven { at, device: u64::from_str_radix(device, 16).ok()? };
                    devices.restore(Kept::Home(home, proven), now);
                }
                _ => return None,
            }
        }
        Some(())
    }

    /// Nothing lies further ahead than the longest lifetime: a small computer starts in 1970 and sets its clock later.
    fn moment(&self, unix: u64) -> Moment {
        let (now, wall) = (self.clock.now(), SystemTime::now());
        match (UNIX_EPOCH + Duration::from_secs(unix)).duration_since(wall) {
            Ok(ahead) => now + ahead.min(LONGEST),
            Err(past) => now - past.duration(),
        }
    }

    /// Writes down who is known.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; the old one stays.
    pub fn save(&self, devices: &Devices) -> io::Result<()> {
        let mut lines = vec![FORMAT.to_owned()];
        devices.for_each(&mut |entry| lines.push(self.line(entry)));
        durable::replace(&self.path, |file| lines.iter().try_for_each(|line| writeln!(file, "{line}")))
    }

    fn line(&self, entry: Kept) -> String {
        match entry {
            Kept::Proof(credential, Proof { device, until, revoked, lapses }) => {
                let (word, until, lapses) =
                    (if revoked { "revoked" } else { "good" }, self.unix(until), self.unix(lapses));
                format!("proof {} {device:016x} {until} {lapses} {word}", credential.to_hex())
            }
            Kept::Home(Home { client, host }, Proven { at, device }) => {
                format!("home {} {host:08x} {device:016x} {}", client.network().addr(), self.unix(at))
            }
        }
    }

    fn unix(&self, moment: Moment) -> u64 {
        self.clock.wall(moment).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::guard::devices::Credit;

    #[test]
    fn the_key_is_made_once_and_is_nobody_elses() {
        let directory = tempfile::tempdir().unwrap();
        let first = key(directory.path()).unwrap();
        assert_eq!(key(directory.path()).unwrap(), first);
        assert_ne!(first, [0; 32]);
        let path = directory.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"short").unwrap();
        assert!(key(directory.path()).unwrap_err().to_string().contains("guard.key"));
    }

    #[test]
    fn who_is_known_outlives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::start();
        let file = KnownDevices::new(directory.path(), clock);
        let (old, hour, now) = (Devices::default(), Duration::from_secs(3600), clock.now());
        let print = |digits: &str| Fingerprint::from_hex(&digits.repeat(16)).unwrap();
        let [token, gone, expired, forgotten] = ["01", "02", "03", "04"].map(print);
        old.prove(token, 7, hour, now);
        old.prove(gone, 8, hour, now);
        old.refuse(gone, now);
        old.prove(expired, 9, hour, now - 2 * hour);
        old.prove(forgotten, 9, hour, now - 200 * hour);
        let [home, past] = ["2001:db8::1", "192.0.2.1"].map(|ip| ClientAddr::new(ip.parse().unwrap()).key());
        old.prove_home(Home { client: home, host: 5 }, 7, now);
        old.prove_home(Home { client: past, host: 5 }, 7, now - 100 * hour);
        file.save(&old).unwrap();
        let new = Devices::default();
        file.restore(&new);
        assert_eq!(new.credit(token, now), Credit::Good { device: 7 });
        assert_eq!(new.credit(gone, now), Credit::Revoked { times: 0 });
        assert_eq!(new.credit(expired, now), Credit::Expired { device: 9 });
        assert_eq!(new.credit(forgotten, now), Credit::Unknown);
        assert!(new.is_home(home, 5, hour, now + hour / 2));
        assert!(new.is_home(past, 5, 101 * hour, now) && !new.is_home(past, 5, 99 * hour, now));
        let mode = fs::metadata(directory.path().join(DEVICES_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_not_ours_is_set_aside() {
        for text in ["", "something else\n", "hearthgate known devices 1\nproof x\n", "\u{0}\u{0}"] {
            let directory = tempfile::tempdir().unwrap();
            let file = KnownDevices::new(directory.path(), Clock::start());
            fs::write(directory.path().join(DEVICES_FILE), text).unwrap();
            file.restore(&Devices::default());
            assert!(!directory.path().join(DEVICES_FILE).exists(), "{text:?}");
            assert!(directory.path().join("known-devices.unusable").exists(), "{text:?}");
        }
    }
}
