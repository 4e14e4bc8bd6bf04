use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use rcgen::PKCS_ECDSA_P256_SHA256;
use tempfile::{TempDir, tempdir};

use super::super::certificate::sha256;
use super::super::fixtures::{Issued, day, exact, files_in, issue, issue_for, wildcard};
use super::super::{CertificateOrigin, EntrySource};
use super::*;
use crate::config::{HostPattern, OnFailure};

fn self_signed_for(names: &[HostPattern]) -> CertificateEntry {
    CertificateEntry { names: names.to_vec(), source: EntrySource::SelfSigned }
}

fn written(directory: &Path, host: &str, issued: &Issued) -> CertificateEntry {
    let own = directory.join(host);
    fs::create_dir_all(&own).unwrap();
    CertificateEntry { names: vec![exact(host)], source: EntrySource::Files(issued.write(&own)) }
}

fn load(store: &CertificateStore, entries: &[CertificateEntry], state: &Path, number: i64) {
    let prepared = store.prepare(entries, state, day(number)).unwrap();
    store.commit(prepared);
}

fn shown(store: &CertificateStore, name: &str) -> Option<[u8; 32]> {
    store.resolve(name).map(|key| sha256(&key.cert[0]))
}

#[test]
fn names_resolve_exactly_then_by_wildcard_and_never_otherwise() {
    let directory = tempdir().unwrap();
    let store = CertificateStore::new();
    let entries = [
        self_signed_for(&[exact("home.test"), exact("alias.test")]),
        self_signed_for(&[wildcard("home.test")]),
        self_signed_for(&[exact("special.home.test")]),
    ];
    load(&store, &entries, directory.path(), 0);
    let facts = store.facts();
    let host = |name: &str| {
        let shown = shown(&store, name)?;
        facts.iter().find(|facts| facts.sha256 == shown).map(|facts| facts.host.as_str())
    };
    let cases = [
        ("home.test", Some("home.test")),
        ("HOME.Test", Some("home.test")),
        ("home.test.", Some("home.test")),
        ("alias.test", Some("home.test")),
        ("a.home.test", Some("*.home.test")),
        ("A.Home.test.", Some("*.home.test")),
        ("special.home.test", Some("special.home.test")),
        ("a.b.home.test", None),
        (".home.test", None),
        ("home.test..", None),
        ("*.home.test", Some("*.home.test")),
        ("ahome.test", None),
        ("test", None),
        ("other.test", None),
        ("a.alias.test", None),
        ("", None),
        (".", None),
    ];
    for (name, expected) in cases {
        assert_eq!(host(name), expected, "{name}");
    }
}

proptest! {
    #[test]
    fn any_name_may_be_asked_for(name in "\\PC{0,40}") {
        prop_assert!(CertificateStore::new().resolve(&name).is_none());
    }
}

#[test]
fn all_errors_come_at_once_and_nothing_changes() {
    let directory = tempdir().unwrap();
    let store = CertificateStore::new();
    load(&store, &[self_signed_for(&[exact("home.test")])], directory.path(), 0);
    let before = store.facts();

    let expired = issue_for(&["b.test"], &PKCS_ECDSA_P256_SHA256, day(-90), day(-1));
    let missing =
        CertificateEntry { names: vec![exact("c.test")], source: EntrySource::Files(files_in(Path::new("/missing"))) };
    let entries = [
        written(directory.path(), "a.test", &issue(&["a.test"])),
        written(directory.path(), "b.test", &expired),
        missing,
        self_signed_for(&[exact("d.test"), exact("a.test")]),
    ];
    let errors = store.prepare(&entries, directory.path(), day(0)).unwrap_err();
    assert!(
        matches!(
            &errors[..],
            [
                CertificateError::DuplicateName { name },
                CertificateError::Expired { .. },
                CertificateError::Unreadable { .. }
            ] if name == "a.test"
        ),
        "{errors:?}"
    );
    assert_eq!(store.facts(), before);
}

#[test]
fn a_host_that_is_gone_is_no_longer_served() {
    let directory = tempdir().unwrap();
    let store = CertificateStore::new();
    let entries = [self_signed_for(&[exact("a.test")]), self_signed_for(&[exact("b.test")])];
    load(&store, &entries, directory.path(), 0);
    let kept = shown(&store, "a.test");
    load(&store, &entries[..1], directory.path(), 0);
    assert_eq!(shown(&store, "a.test"), kept);
    assert_eq!(shown(&store, "b.test"), None);
}

#[test]
fn a_reload_keeps_the_old_certificate_only_for_the_files_it_came_from() {
    let directory = tempdir().unwrap();
    let store = CertificateStore::new();
    let issued = issue(&["home.test"]);
    let mut entry = written(directory.path(), "home.test", &issued);
    load(&store, std::slice::from_ref(&entry), directory.path(), 1);
    fs::write(directory.path().join("home.test/fullchain.pem"), "broken").unwrap();

    let prepared = store.prepare(std::slice::from_ref(&entry), directory.path(), day(1)).unwrap();
    assert!(matches!(prepared.warnings(), [CertificateWarning::Kept { host, .. }] if host == "home.test"));
    store.commit(prepared);
    assert_eq!(shown(&store, "home.test"), Some(sha256(&issued.der)));
    assert!(store.facts()[0].last_error.as_ref().unwrap().contains("no certificate"));
    assert_eq!(store.refresh(day(1)), [], "the reload has told it");

    // The same host with other files has nothing to fall back on, nor has a new process.
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    assert!(CertificateStore::new().prepare(std::slice::from_ref(&entry), directory.path(), day(1)).is_err());
    entry.source = EntrySource::Files(files_in(&elsewhere));
    assert!(store.prepare(&[entry], directory.path(), day(1)).is_err());
}

#[test]
fn an_expired_certificate_survives_a_reload_but_not_a_start() {
    let directory = tempdir().unwrap();
    let store = CertificateStore::new();
    let entry = written(directory.path(), "home.test", &issue(&["home.test"]));
    load(&store, std::slice::from_ref(&entry), directory.path(), 1);
    load(&store, std::slice::from_ref(&entry), directory.path(), 91);
    assert!(store.resolve("home.test").is_some());
    assert!(CertificateStore::new().prepare(&[entry], directory.path(), day(91)).is_err());
}

#[test]
fn a_name_that_the_certificate_lacks_is_a_warning() {
    let directory = tempdir().unwrap();
    let store = CertificateStore::new();
    let mut entry = written(directory.path(), "home.test", &issue(&["home.test"]));
    entry.names.push(exact("alias.test"));
    let prepared = store.prepare(&[entry], directory.path(), day(1)).unwrap();
    assert!(matches!(prepared.warnings(), [CertificateWarning::Uncovered { name, .. }] if name == "alias.test"));
    store.commit(prepared);
    assert!(store.resolve("alias.test").is_some());
}

struct State {
    directory: TempDir,
    names: Vec<HostPattern>,
}

impl State {
    fn new() -> Self {
        Self { directory: tempdir().unwrap(), names: vec![exact("home.test")] }
    }

    fn entries(&self) -> [CertificateEntry; 1] {
        [self_signed_for(&self.names)]
    }

    /// A new process on the same state directory.
    fn start(&self, number: i64) -> CertificateStore {
        let store = CertificateStore::new();
        load(&store, &self.entries(), self.directory.path(), number);
        store
    }

    fn own(&self) -> PathBuf {
        self.directory.path().join("self-signed")
    }
}

#[test]
fn a_self_signed_certificate_survives_restarts_and_reloads() {
    let state = State::new();
    let store = state.start(0);
    let first = shown(&store, "home.test");
    assert!(first.is_some() && store.facts()[0].origin == CertificateOrigin::SelfSigned);
    load(&store, &state.entries(), state.directory.path(), 1);
    assert_eq!(shown(&store, "home.test"), first);
    assert_eq!(shown(&state.start(100), "home.test"), first);
}

#[test]
fn a_reload_makes_a_self_signed_certificate_anew_for_other_names_or_age() {
    let mut state = State::new();
    let store = state.start(0);
    let first = shown(&store, "home.test");
    state.names.push(exact("alias.test"));
    load(&store, &state.entries(), state.directory.path(), 0);
    let second = shown(&store, "home.test");
    assert_ne!(second, first);
    assert_eq!(shown(&store, "alias.test"), second);
    load(&store, &state.entries(), state.directory.path(), 300);
    assert_ne!(shown(&store, "home.test"), second);
}

#[test]
fn a_self_signed_certificate_is_made_anew_for_other_names_age_or_damage() {
    let mut state = State::new();
    let first = shown(&state.start(0), "home.test");
    state.names.push(wildcard("home.test"));
    let second = shown(&state.start(0), "home.test");
    assert_ne!(second, first);
    let third = shown(&state.start(300), "home.test");
    assert_ne!(third, second);
    fs::write(state.own().join("home.test.key.pem"), "damaged").unwrap();
    let store = CertificateStore::new();
    let prepared = store.prepare(&state.entries(), state.directory.path(), day(300)).unwrap();
    assert!(matches!(prepared.warnings(), [CertificateWarning::SelfSignedReplaced { .. }]));
    store.commit(prepared);
    assert_ne!(shown(&store, "home.test"), third);
    assert_eq!(shown(&state.start(300), "home.test"), shown(&store, "home.test"));
}

#[test]
fn a_self_signed_certificate_is_renewed_while_serving() {
    let state = State::new();
    let store = state.start(0);
    let first = shown(&store, "home.test");
    assert_eq!(store.refresh(day(200)), []);
    assert!(matches!(store.refresh(day(300))[..], [RefreshOutcome::Renewed { .. }]));
    let second = shown(&store, "home.test");
    assert_ne!(second, first);
    assert_eq!(store.refresh(day(300)), []);
    assert_eq!(shown(&state.start(300), "home.test"), second);
}

#[test]
fn checking_a_configuration_writes_nothing() {
    let state = State::new();
    CertificateStore::new().prepare(&state.entries(), state.directory.path(), day(0)).unwrap();
    assert!(!state.own().exists());
}

#[test]
fn a_state_directory_that_cannot_be_written_does_not_close_the_door() {
    let state = State::new();
    // A file in the directory's place stops root too.
    fs::write(state.own(), "").unwrap();
    let store = state.start(0);
    let first = shown(&store, "home.test");
    assert!(first.is_some());
    assert!(store.facts()[0].last_error.is_some());
    assert_eq!(store.refresh(day(0)), [], "told by the commit");
    load(&store, &state.entries(), state.directory.path(), 0);
    assert_eq!(shown(&store, "home.test"), first);

    fs::remove_file(state.own()).unwrap();
    assert_eq!(store.refresh(day(0)), []);
    assert_eq!(store.facts()[0].last_error, None);
    assert_eq!(shown(&state.start(0), "home.test"), first);
}

#[test]
fn a_renewal_that_cannot_be_saved_leaves_the_old_certificate() {
    let state = State::new();
    let store = state.start(0);
    let first = shown(&store, "home.test");
    fs::remove_dir_all(state.own()).unwrap();
    fs::write(state.own(), "").unwrap();
    store.refresh(day(300));
    let told = store.refresh(day(300));
    assert!(
        matches!(&told[..], [RefreshOutcome::Failed { error: CertificateError::Unwritable { .. }, .. }]),
        "{told:?}"
    );
    assert_eq!(shown(&store, "home.test"), first);
}

#[test]
fn a_reload_during_a_look_wins() {
    let directory = tempdir().unwrap();
    let store = CertificateStore::new();
    let entry = written(directory.path(), "home.test", &issue(&["home.test"]));
    load(&store, &[entry], directory.path(), 1);
    let seen = store.table.load_full();
    load(&store, &[self_signed_for(&[exact("new.test")])], directory.path(), 1);
    assert!(!store.publish(&seen, seen.entries.clone()));
    assert!(store.resolve("new.test").is_some() && store.resolve("home.test").is_none());
    let current = store.table.load_full();
    assert!(store.publish(&current, current.entries.clone()));
}

#[test]
fn debug_output_tells_nothing_of_keys() {
    let state = State::new();
    assert_eq!(format!("{:?}", state.start(0)), "CertificateStore { hosts: 1, .. }");
}

/// A host whose certificate an authority issues, as one file.
struct Issuing {
    directory: TempDir,
    store: CertificateStore,
}

impl Issuing {
    fn new() -> Self {
        Self { directory: tempdir().unwrap(), store: CertificateStore::new() }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("home.test.pem")
    }

    fn write(&self, issued: &Issued) {
        fs::write(self.file(), format!("{}{}", issued.chain, issued.key)).unwrap();
    }

    /// Loads anew and returns the warnings.
    fn load(&self, until_then: OnFailure, number: i64) -> Vec<CertificateWarning> {
        let source = EntrySource::Issued { file: self.file(), until_then };
        let entry = CertificateEntry { names: vec![exact("home.test")], source };
        let prepared = self.store.prepare(&[entry], self.directory.path(), day(number)).unwrap();
        let warnings = prepared.warnings().to_vec();
        self.store.commit(prepared);
        warnings
    }

    fn shown(&self) -> Option<[u8; 32]> {
        shown(&self.store, "home.test")
    }
}

#[test]
fn until_it_is_issued_a_certificate_of_our_own_is_shown() {
    let home = Issuing::new();
    assert_eq!(home.load(OnFailure::SelfSigned, 0), []);
    assert_eq!(home.store.facts()[0].origin, CertificateOrigin::SelfSigned);
    assert_eq!(home.store.refresh(day(1)), []);
    let issued = issue(&["home.test"]);
    home.write(&issued);
    assert!(matches!(home.store.refresh(day(1))[..], [RefreshOutcome::Replaced { .. }]));
    assert_eq!(home.shown(), Some(sha256(&issued.der)));
    assert_eq!(home.store.facts()[0].origin, CertificateOrigin::Acme);
    let renewed = issue(&["home.test"]);
    home.write(&renewed);
    assert!(matches!(home.store.refresh(day(60))[..], [RefreshOutcome::Replaced { .. }]));
    assert_eq!(home.shown(), Some(sha256(&renewed.der)));
}

#[test]
fn a_host_may_rather_be_silent_until_it_is_issued() {
    let home = Issuing::new();
    home.load(OnFailure::Refuse, 0);
    assert_eq!((home.shown(), home.store.facts()), (None, Vec::new()));
    // A reload changes that at once, both ways.
    home.load(OnFailure::SelfSigned, 0);
    assert!(home.shown().is_some());
    home.load(OnFailure::Refuse, 0);
    assert_eq!(home.shown(), None);
    let issued = issue(&["home.test"]);
    home.write(&issued);
    home.store.refresh(day(1));
    assert_eq!(home.shown(), Some(sha256(&issued.der)));
    home.load(OnFailure::Refuse, 2);
    assert_eq!(home.shown(), Some(sha256(&issued.der)));
}

#[test]
fn what_was_issued_is_served_beyond_its_end_and_whatever_the_clock_says() {
    let home = Issuing::new();
    let issued = issue(&["home.test"]);
    home.write(&issued);
    for number in [91, -3000] {
        home.load(OnFailure::SelfSigned, number);
        assert_eq!(home.shown(), Some(sha256(&issued.der)));
    }
    assert!(matches!(home.store.refresh(day(91))[..], [RefreshOutcome::Expired { .. }]));
}

#[test]
fn what_was_issued_and_is_damaged_is_waited_for_again() {
    let home = Issuing::new();
    fs::write(home.file(), "damaged").unwrap();
    assert!(matches!(home.load(OnFailure::SelfSigned, 0)[..], [CertificateWarning::IssuedUnusable { .. }]));
    assert_eq!(home.store.facts()[0].origin, CertificateOrigin::SelfSigned);
    let issued = issue(&["home.test"]);
    home.write(&issued);
    home.store.refresh(day(1));
    // What is served stays, whatever becomes of the file, and whoever loads anew.
    fs::write(home.file(), "damaged").unwrap();
    home.store.refresh(day(2));
    assert!(matches!(home.load(OnFailure::SelfSigned, 2)[..], [CertificateWarning::Kept { .. }]));
    assert_eq!(home.shown(), Some(sha256(&issued.der)));
}

#[test]
fn what_served_before_goes_on_until_the_gate_has_its_own() {
    let home = Issuing::new();
    let bought = issue(&["home.test"]);
    load(&home.store, &[written(home.directory.path(), "home.test", &bought)], home.directory.path(), 1);
    for until_then in [OnFailure::SelfSigned, OnFailure::Refuse] {
        assert_eq!(home.load(until_then, 1), []);
        assert_eq!(home.shown(), Some(sha256(&bought.der)));
    }
    let issued = issue(&["home.test"]);
    home.write(&issued);
    assert!(matches!(home.store.refresh(day(2))[..], [RefreshOutcome::Replaced { .. }]));
    assert_eq!(home.shown(), Some(sha256(&issued.der)));
}

#[test]
fn what_served_others_or_has_expired_does_not_go_on() {
    let home = Issuing::new();
    for (name, number) in [("other.test", 1), ("home.test", 1)] {
        let issued = issue(&["other.test"]);
        load(&home.store, &[written(home.directory.path(), name, &issued)], home.directory.path(), number);
        home.load(OnFailure::SelfSigned, number);
        assert_eq!(home.store.facts()[0].origin, CertificateOrigin::SelfSigned, "{name}");
    }
    load(&home.store, &[written(home.directory.path(), "home.test", &issue(&["home.test"]))], home.directory.path(), 1);
    home.load(OnFailure::SelfSigned, 91);
    assert_eq!(home.store.facts()[0].origin, CertificateOrigin::SelfSigned);
}
