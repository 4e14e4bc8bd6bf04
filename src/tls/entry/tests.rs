//! Changes while serving, told by what one store's looks bring.

use std::fs;
use std::os::unix::fs::symlink;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use tempfile::{TempDir, tempdir};

use super::super::certificate::sha256;
use super::super::fixtures::{Issued, day, exact, files_in, issue, issue_for};
use super::super::store::CertificateStore;
use super::*;

struct Home {
    directory: TempDir,
    store: CertificateStore,
}

impl Home {
    fn with(issued: &Issued) -> Self {
        let directory = tempdir().unwrap();
        let files = issued.write(directory.path());
        Self::serving(directory, files)
    }

    fn serving(directory: TempDir, files: CertificateFiles) -> Self {
        let store = CertificateStore::new();
        let entry = CertificateEntry { names: vec![exact("home.test")], source: EntrySource::Files(files) };
        let prepared = store.prepare(&[entry], directory.path(), day(1)).unwrap();
        store.commit(prepared);
        Self { directory, store }
    }

    fn files(&self) -> CertificateFiles {
        files_in(self.directory.path())
    }

    fn serves(&self, issued: &Issued) -> bool {
        self.store.facts()[0].sha256 == sha256(&issued.der)
            && self.store.resolve("home.test").unwrap().cert[0].as_ref() == issued.der
    }
}

#[test]
fn new_files_are_served_whatever_their_kind_of_key() {
    let home = Home::with(&issue(&["home.test"]));
    for algorithm in [&PKCS_RSA_SHA256, &PKCS_ED25519, &PKCS_ECDSA_P256_SHA256] {
        let new = issue_for(&["home.test"], algorithm, day(0), day(80));
        new.write(home.directory.path());
        let replaced =
            RefreshOutcome::Replaced { host: "home.test".to_owned(), not_after: day(80), uncovered: Vec::new() };
        assert_eq!(home.store.refresh(day(2)), [replaced]);
        assert!(home.serves(&new));
        assert_eq!(home.store.refresh(day(2)), []);
    }
}

#[test]
fn a_change_that_the_stamp_does_not_show_is_seen_by_the_next_look() {
    let directory = tempdir().unwrap();
    let files = issue(&["home.test"]).write(directory.path());
    let wanted = CertificateEntry { names: vec![exact("home.test")], source: EntrySource::Files(files.clone()) };
    let mut entry = Entry::prepare(&wanted, &[], directory.path(), day(1), &mut Vec::new()).unwrap().unwrap();
    assert_eq!(entry.look(day(1)), []);
    issue_for(&["home.test"], &PKCS_RSA_SHA256, day(0), day(90)).write(directory.path());
    assert!(matches!(entry.look(day(1))[..], [RefreshOutcome::Replaced { .. }]));

    issue(&["home.test"]).write(directory.path());
    // As if this write had fallen into the same tick of the file system's clock as the last one.
    let Source::Files { seen, .. } = &mut entry.source else { unreachable!("it was made from files") };
    *seen = PairStamp::of(&files);
    assert!(matches!(entry.look(day(1))[..], [RefreshOutcome::Replaced { .. }]));
    assert!(matches!(entry.source, Source::Files { settled: true, .. }));
}

#[test]
fn certbots_links_are_followed() {
    let directory = tempdir().unwrap();
    let (live, archive) = (directory.path().join("live/home"), directory.path().join("archive/home"));
    fs::create_dir_all(&live).unwrap();
    fs::create_dir_all(&archive).unwrap();
    let (first, second) = (issue(&["home.test"]), issue(&["home.test"]));
    for (number, issued) in [(1, &first), (2, &second)] {
        fs::write(archive.join(format!("fullchain{number}.pem")), &issued.chain).unwrap();
        fs::write(archive.join(format!("privkey{number}.pem")), &issued.key).unwrap();
    }
    let point_at = |stem: &str, number: u8| {
        let link = live.join(format!("{stem}.pem"));
        let _ = fs::remove_file(&link);
        symlink(format!("../../archive/home/{stem}{number}.pem"), link).unwrap();
    };
    point_at("fullchain", 1);
    point_at("privkey", 1);
    let home = Home::serving(directory, files_in(&live));
    assert_eq!(home.store.refresh(day(1)), []);

    point_at("fullchain", 2);
    assert_eq!(home.store.refresh(day(1)), [], "a look between the two links is not an error");
    assert!(home.serves(&first));
    assert_eq!(home.store.facts()[0].last_error, None);
    point_at("privkey", 2);
    assert!(matches!(home.store.refresh(day(1))[..], [RefreshOutcome::Replaced { .. }]));
    assert!(home.serves(&second));

    // The same links, another content behind them.
    home.store.refresh(day(1));
    let third = issue_for(&["home.test"], &PKCS_RSA_SHA256, day(0), day(90));
    fs::write(archive.join("fullchain2.pem"), &third.chain).unwrap();
    fs::write(archive.join("privkey2.pem"), &third.key).unwrap();
    assert!(matches!(home.store.refresh(day(1))[..], [RefreshOutcome::Replaced { .. }]));
    assert!(home.serves(&third));
}

#[test]
fn bad_new_files_leave_the_old_certificate_and_are_told_once() {
    let old = issue(&["home.test"]);
    let expired = issue_for(&["home.test"], &PKCS_ECDSA_P256_SHA256, day(-90), day(0));
    let other = issue(&["home.test"]);
    let mismatch = Issued { key: issue(&["home.test"]).key, ..issue(&["home.test"]) };
    let garbage = Issued { chain: "half a fi".to_owned(), ..issue(&["home.test"]) };
    for bad in [expired, mismatch, garbage] {
        let home = Home::with(&old);
        bad.write(home.directory.path());
        assert_eq!(home.store.refresh(day(2)), [], "the first look may have come in the middle of writing");
        let told = home.store.refresh(day(2));
        assert!(matches!(&told[..], [RefreshOutcome::Failed { host, .. }] if host == "home.test"), "{told:?}");
        for _ in 0..3 {
            assert_eq!(home.store.refresh(day(2)), []);
        }
        assert!(home.serves(&old));
        assert!(home.store.facts()[0].last_error.is_some());

        other.write(home.directory.path());
        assert!(matches!(home.store.refresh(day(2))[..], [RefreshOutcome::Replaced { .. }]));
        assert!(home.serves(&other));
        assert_eq!(home.store.facts()[0].last_error, None);
    }
}

#[test]
fn another_error_is_told_anew_and_a_cured_one_forgotten() {
    let old = issue(&["home.test"]);
    let home = Home::with(&old);
    fs::remove_file(home.files().key_file).unwrap();
    home.store.refresh(day(2));
    assert!(matches!(home.store.refresh(day(2))[..], [RefreshOutcome::Failed { .. }]));
    fs::write(home.files().key_file, "not a key").unwrap();
    let told = home.store.refresh(day(2));
    assert!(matches!(&told[..], [RefreshOutcome::Failed { error: CertificateError::NoKey { .. }, .. }]), "{told:?}");
    old.write(home.directory.path());
    assert_eq!(home.store.refresh(day(2)), []);
    assert_eq!(home.store.facts()[0].last_error, None);
    assert!(home.serves(&old));
}

#[test]
fn a_certificate_from_the_future_is_served_when_its_time_has_come() {
    let home = Home::with(&issue(&["home.test"]));
    let future = issue_for(&["home.test"], &PKCS_ECDSA_P256_SHA256, day(5), day(95));
    future.write(home.directory.path());
    home.store.refresh(day(2));
    home.store.refresh(day(2));
    assert!(!home.serves(&future));
    assert!(matches!(home.store.refresh(day(5))[..], [RefreshOutcome::Replaced { .. }]));
    assert!(home.serves(&future));
}

#[test]
fn a_new_certificate_for_other_names_is_served_and_says_so() {
    let home = Home::with(&issue(&["home.test"]));
    issue(&["other.test"]).write(home.directory.path());
    let outcomes = home.store.refresh(day(2));
    assert!(matches!(&outcomes[..], [RefreshOutcome::Replaced { uncovered, .. }] if uncovered == &["home.test"]));
}

#[test]
fn the_end_is_told_once_a_day_and_the_door_stays_open() {
    let issued = issue(&["home.test"]);
    let home = Home::with(&issued);
    let hours = |count: u64| Duration::from_secs(count * 3600);
    let soon = [RefreshOutcome::ExpiresSoon { host: "home.test".to_owned(), not_after: day(90) }];
    let expired = [RefreshOutcome::Expired { host: "home.test".to_owned(), not_after: day(90) }];
    let cases: [(SystemTime, &[RefreshOutcome]); 10] = [
        (day(83) - hours(1), &[]),
        (day(83), &soon),
        (day(83) + hours(23), &[]),
        (day(84), &soon),
        (day(89) + hours(23), &soon),
        (day(90), &[]),
        // Another message, so the day since the last one does not count.
        (day(90) + hours(1), &expired),
        (day(90) + hours(24), &[]),
        (day(91) + hours(1), &expired),
        (day(400), &expired),
    ];
    home.store.refresh(day(2));
    for (now, outcomes) in cases {
        assert_eq!(home.store.refresh(now), outcomes, "{now:?}");
        assert!(home.serves(&issued));
    }
}

#[test]
fn a_short_life_is_not_told_about_from_its_first_day() {
    let home = Home::with(&issue_for(&["home.test"], &PKCS_ECDSA_P256_SHA256, day(0), day(6)));
    assert_eq!(home.store.refresh(day(3)), []);
    assert!(matches!(home.store.refresh(day(4))[..], [RefreshOutcome::ExpiresSoon { .. }]));
}
