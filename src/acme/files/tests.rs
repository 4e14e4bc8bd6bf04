use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use tempfile::tempdir;

use super::*;
use crate::acme::fixtures::{certificate, exact, wildcard};
use crate::acme::problem::{Failure, Step};

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory.join(DIRECTORY)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn pem() -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["HA.example.org".to_owned()]).unwrap();
    params.not_after = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).into();
    params.not_before = SystemTime::UNIX_EPOCH.into();
    format!("{}\n{}", params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_file_is_called_after_the_first_name() {
    for (names, expected) in [
        (vec![exact("ha.example.org"), exact("a.example.org")], "ha.example.org.pem"),
        (vec![wildcard("example.org")], "_wildcard.example.org.pem"),
        (vec![exact("_wildcard.example.org")], "__wildcard.example.org.pem"),
    ] {
        let path = certificate_file(Path::new("/state"), &certificate(names));
        assert_eq!(path, Path::new("/state/acme").join(expected));
    }
}

#[test]
fn a_long_name_has_a_file_too() {
    let long = |last: &str| certificate(vec![exact(&format!("{}.{last}", vec!["a".repeat(60); 4].join(".")))]);
    let directory = tempdir().unwrap();
    let files = Files::new(directory.path());
    files.save_memory(&long("example"), &Memory::default()).unwrap();
    files.save_memory(&long("exampla"), &Memory::default()).unwrap();
    assert_eq!(names_in(directory.path()).len(), 2);
}

#[test]
fn what_is_kept_is_nobody_elses_and_comes_back() {
    let directory = tempdir().unwrap();
    let (files, home) = (Files::new(directory.path()), certificate(vec![exact("ha.example.org")]));
    assert_eq!((files.memory(&home).unwrap(), files.held(&home).unwrap()), (Memory::default(), None));
    assert!(files.pending(&home).unwrap().is_none() && files.account("https://a.test/dir", None).unwrap().is_none());

    let mut memory = Memory::default();
    memory.failed(&Failure::new(Step::Order, "no"), SystemTime::now(), Luck(7));
    files.save_memory(&home, &memory).unwrap();
    let request = Request::new(&home, "https://a.test/dir");
    let (order, account) = ("https://a.test/order/1".to_owned(), "https://a.test/account/1".to_owned());
    let pending = Pending { order, request, account, since: SystemTime::now(), key: "key".to_owned() };
    files.save_pending(&home, &pending).unwrap();
    files.save_certificate(&home, &pem()).unwrap();
    assert_eq!(files.memory(&home).unwrap(), memory);
    assert!(files.pending(&home).unwrap() == Some(pending));
    let held = files.held(&home).unwrap().unwrap();
    // Long expired, and known nevertheless.
    assert_eq!((held.names, held.issuer.is_some()), (vec!["ha.example.org".to_owned()], true));

    let own = directory.path().join(DIRECTORY);
    assert_eq!(own.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for name in names_in(directory.path()) {
        assert_eq!(own.join(&name).metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    files.drop_pending(&home);
    files.drop_pending(&home);
    assert_eq!(names_in(directory.path()), ["ha.example.org.json", "ha.example.org.pem"]);
}

fn account(number: u32, external_key_id: Option<&str>) -> SavedAccount {
    let credentials = serde_json::json!({
        "id": format!("https://a.test/account/{number}"), "key_pkcs8": "AAAA", "directory": "https://a.test/dir",
    });
    SavedAccount {
        directory: "https://a.test/dir".to_owned(),
        email: Some("anna@example.org".to_owned()),
        external_key_id: external_key_id.map(str::to_owned),
        is_proven: false,
        replaced_at: None,
        credentials: serde_json::from_value(credentials).unwrap(),
    }
}

fn key_of(files: &Files, external_key_id: Option<&str>) -> Option<Option<String>> {
    Some(files.account("https://a.test/dir", external_key_id).unwrap()?.external_key_id)
}

#[test]
fn an_account_belongs_to_its_directory_and_its_customer() {
    let directory = tempdir().unwrap();
    let files = Files::new(directory.path());
    files.save_account(&account(1, Some("one"))).unwrap();
    assert!(files.account("https://b.test/dir", None).unwrap().is_none());
    // A mistyped key finds nothing and loses nothing; without one the account that was made with it is taken.
    assert_eq!(key_of(&files, Some("onee")), None);
    assert_eq!(key_of(&files, Some("one")), Some(Some("one".to_owned())));
    assert_eq!(key_of(&files, None), Some(Some("one".to_owned())));
    files.save_account(&account(2, None)).unwrap();
    assert_eq!((key_of(&files, None), key_of(&files, Some("one"))), (Some(None), Some(Some("one".to_owned()))));
    files.try_writing().unwrap();
    assert_eq!(names_in(directory.path()).len(), 2);
}

#[test]
fn an_account_that_is_replaced_stays() {
    let directory = tempdir().unwrap();
    let files = Files::new(directory.path());
    for number in 1..=3 {
        files.save_account(&account(number, None)).unwrap();
        // The same once more is no other one.
        files.save_account(&SavedAccount { is_proven: true, ..account(number, None) }).unwrap();
    }
    let names = names_in(directory.path());
    assert!(names.len() == 3 && names[1].ends_with(".json.1") && names[2].ends_with(".json.2"), "{names:?}");
    let read = |name: &str| fs::read_to_string(directory.path().join(DIRECTORY).join(name)).unwrap();
    assert!(read(&names[0]).contains("account/3") && read(&names[1]).contains("account/1"));
}

#[test]
fn what_cannot_be_read_is_not_taken_for_nothing() {
    let directory = tempdir().unwrap();
    let (files, home) = (Files::new(directory.path()), certificate(vec![exact("ha.example.org")]));
    // A loop of links cannot be opened by anybody.
    let own = directory.path().join(DIRECTORY);
    fs::create_dir(&own).unwrap();
    for path in ["json", "pem", "pending"].map(|extension| files.of(&home, extension)) {
        std::os::unix::fs::symlink(&path, &path).unwrap();
    }
    let account = files.account_file("https://a.test/dir", None);
    std::os::unix::fs::symlink(&account, &account).unwrap();
    assert!(files.memory(&home).is_err() && files.held(&home).is_err());
    assert!(files.pending(&home).is_err() && files.account("https://a.test/dir", None).is_err());
    assert_eq!(names_in(directory.path()).len(), 4, "nothing is set aside");
}

#[test]
fn a_damaged_file_is_set_aside_and_never_in_the_way() {
    let home = certificate(vec![exact("ha.example.org")]);
    for damage in ["", "{", "{\"failures\": -1, \"order\": 3}", "\u{0}\u{0}\u{0}"] {
        let directory = tempdir().unwrap();
        let files = Files::new(directory.path());
        files.save_certificate(&home, damage).unwrap();
        for extension in ["json", "pending"] {
            fs::write(directory.path().join(format!("acme/ha.example.org.{extension}")), damage).unwrap();
        }
        fs::write(files.account_file("https://a.test/dir", None), damage).unwrap();
        assert_eq!((files.memory(&home).unwrap(), files.held(&home).unwrap()), (Memory::default(), None), "{damage:?}");
        assert!(files.pending(&home).unwrap().is_none(), "{damage:?}");
        assert!(files.account("https://a.test/dir", None).unwrap().is_none(), "{damage:?}");
        let aside = names_in(directory.path()).iter().filter(|name| name.ends_with(".unusable")).count();
        assert_eq!(aside, 3, "{damage:?}");
        files.save_memory(&home, &Memory::default()).unwrap();
    }
}

#[test]
fn what_is_cut_off_half_way_leaves_the_old_one() {
    let directory = tempdir().unwrap();
    let (files, home) = (Files::new(directory.path()), certificate(vec![exact("ha.example.org")]));
    files.save_certificate(&home, &pem()).unwrap();
    let held = files.held(&home).unwrap();
    // What the process had written when it was killed.
    fs::write(directory.path().join("acme/.ha.example.org.pem.new"), "-----BEGIN CERT").unwrap();
    assert_eq!(files.held(&home).unwrap(), held);
    files.save_certificate(&home, &pem()).unwrap();
    assert!(files.held(&home).unwrap() != held);
    assert_eq!(names_in(directory.path()), ["ha.example.org.pem"]);
}
