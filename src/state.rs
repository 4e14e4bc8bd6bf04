//! What the guard keeps in the state directory besides bans: its key, and who is known.
//!
//! Fingerprints only, under the key beside them; both files are the gate's own (0600). A file that cannot be read costs
//! the household one login, so it is set aside with an error and the gate starts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::client::ClientAddr;
use crate::clock::{Clock, Moment};
use crate::guard::devices::{Devices, Home, Kept, Proof, Proven};
use crate::guard::fingerprint::Fingerprint;

const KEY_FILE: &str = "guard.key";
const DEVICES_FILE: &str = "known-devices";
/// The first line of the file of devices.
const FORMAT: &str = "hearthgate known devices 1";
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
            replace(&path, |file| file.write_all(&key)).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a whole file or nothing.
fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let beside = path.with_extension("new");
    // Left over from a process that was killed; `create_new` then sees to the mode.
    if let Err(error) = fs::remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = BufWriter::new(OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?);
    write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&beside, path)
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
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["proof", credential, device, until, revoked] => {
                    let credential = Fingerprint::from_hex(credential)?;
                    let device = u64::from_str_radix(device, 16).ok()?;
                    let until = self.moment(until.parse().ok()?);
                    devices.restore(Kept::Proof(credential, Proof { device, until, revoked: revoked == "revoked" }));
                }
                ["home", address, host, proven] => {
                    let address: IpAddr = address.parse().ok()?;
                    let home =
                        Home { client: ClientAddr::new(address).key(), host: u32::from_str_radix(host, 16).ok()? };
                    devices.restore(Kept::Home(home, self.proven(proven.parse().ok()?)));
                }
                _ => return None,
            }
        }
        Some(())
    }

    /// When a session was proven: what had passed before the gate's start still counts.
    fn proven(&self, unix: u64) -> Proven {
        let then = UNIX_EPOCH + Duration::from_secs(unix);
        Proven { at: self.clock.now(), before: SystemTime::now().duration_since(then).unwrap_or_default() }
    }

    /// Until when something is believed; what ended before the gate's start ends at it.
    fn moment(&self, unix: u64) -> Moment {
        let (now, wall) = (self.clock.now(), SystemTime::now());
        let then = UNIX_EPOCH + Duration::from_secs(unix);
        then.duration_since(wall).map_or(Moment::START, |ahead| now + ahead)
    }

    /// Writes down who is known.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; the old one stays.
    pub fn save(&self, devices: &Devices) -> io::Result<()> {
        let mut lines = vec![FORMAT.to_owned()];
        devices.for_each(&mut |entry| lines.push(self.line(entry)));
        replace(&self.path, |file| lines.iter().try_for_each(|line| writeln!(file, "{line}")))
    }

    fn line(&self, entry: Kept) -> String {
        match entry {
            Kept::Proof(credential, Proof { device, until, revoked }) => {
                let word = if revoked { "revoked" } else { "good" };
                format!("proof {} {device:016x} {} {word}", credential.to_hex(), self.unix(until))
            }
            Kept::Home(Home { client, host }, proven) => {
                let unix = self.unix(proven.at).saturating_sub(proven.before.as_secs());
                format!("home {} {host:08x} {unix}", client.network().addr())
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

    fn kept(devices: &Devices) -> Vec<Kept> {
        let mut all = Vec::new();
        devices.for_each(&mut |entry| all.push(entry));
        all.sort_by_key(|entry| format!("{entry:?}"));
        all
    }

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
        let file = KnownDevices::new(directory.path(), Clock::start());
        let (old, hour) = (Devices::default(), Duration::from_secs(3600));
        let token = Fingerprint::from_hex("00112233445566778899aabbccddeeff").unwrap();
        let gone = Fingerprint::from_hex("ff112233445566778899aabbccddeeff").unwrap();
        old.prove(token, 7, hour, Moment::START);
        old.prove(gone, 8, hour, Moment::START);
        old.refuse(gone, Moment::START);
        let client = ClientAddr::new("2001:db8::1".parse().unwrap()).key();
        old.prove_home(Home { client, host: 5 }, Moment::START);
        file.save(&old).unwrap();
        let new = Devices::default();
        file.restore(&new);
        assert_eq!(new.credit(token, Moment::START), Credit::Good { device: 7 });
        assert_eq!(new.credit(gone, Moment::START), Credit::Revoked { times: 0 });
        assert!(new.is_home(client, 5, hour, Moment::START + hour / 2));
        assert_eq!(kept(&new).len(), 4);
        let mode = fs::metadata(directory.path().join(DEVICES_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// A restart a day would have kept an address reading for ever.
    #[test]
    fn a_home_grows_no_younger_by_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let hour = Duration::from_secs(3600);
        let clock = Clock::start();
        let file = KnownDevices::new(directory.path(), clock);
        let client = ClientAddr::new("203.0.113.1".parse().unwrap()).key();
        let proven = Proven { at: clock.now(), before: 11 * hour };
        let old = Devices::default();
        old.restore(Kept::Home(Home { client, host: 5 }, proven));
        for restart in 0..3 {
            file.save(&old).unwrap();
            let new = Devices::default();
            file.restore(&new);
            assert!(new.is_home(client, 5, 12 * hour, clock.now()), "{restart}");
            assert!(!new.is_home(client, 5, 12 * hour, clock.now() + hour), "{restart}");
            assert!(!new.is_home(client, 5, 11 * hour, clock.now()), "{restart}");
        }
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
