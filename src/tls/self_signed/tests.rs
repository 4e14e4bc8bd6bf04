use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use tempfile::tempdir;

use super::super::fixtures::{day, exact, wildcard};
use super::*;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn made(directory: &Path, names: &[HostPattern]) -> (Certificate, CertificateFiles) {
    let files = files(directory, &names[0]);
    let (certificate, pair) = make(names, &files, day(0)).unwrap();
    save(&files, &pair).unwrap();
    (certificate, files)
}

#[test]
fn it_covers_all_names_and_lives_397_days() {
    let directory = tempdir().unwrap();
    let names = [exact("home.test"), exact("ha.test"), wildcard("home.test")];
    let (certificate, _) = made(directory.path(), &names);
    assert!(certificate.uncovered(&names).is_empty());
    assert_eq!(certificate.not_before(), day(-1));
    assert_eq!(certificate.not_after(), day(396));
}

#[test]
fn what_is_saved_is_private_and_loads_again() {
    let directory = tempdir().unwrap();
    let (certificate, files) = made(&directory.path().join("state"), &[exact("home.test")]);
    assert_eq!(mode(&files.key_file), 0o600);
    assert_eq!(mode(&files.chain_file), 0o600);
    assert_eq!(mode(files.key_file.parent().unwrap()), 0o700);
    assert!(load(&files).unwrap().is_same(&certificate));
    let left_behind = files.key_file.parent().unwrap().read_dir().unwrap().count();
    assert_eq!(left_behind, 2, "no file written aside may stay");
}

#[test]
fn saving_narrows_what_was_open_and_survives_an_earlier_crash() {
    let directory = tempdir().unwrap();
    let files = files(directory.path(), &exact("home.test"));
    let own = files.key_file.parent().unwrap();
    fs::create_dir(own).unwrap();
    fs::set_permissions(own, Permissions::from_mode(0o755)).unwrap();
    let victim = directory.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    std::os::unix::fs::symlink(&victim, own.join(".home.test.key.pem.new")).unwrap();
    fs::write(&files.key_file, "old").unwrap();
    fs::set_permissions(&files.key_file, Permissions::from_mode(0o644)).unwrap();

    let (_, pair) = make(&[exact("home.test")], &files, day(0)).unwrap();
    save(&files, &pair).unwrap();
    assert_eq!((mode(own), mode(&files.key_file)), (0o700, 0o600));
    assert_eq!(fs::read_to_string(victim).unwrap(), "untouched");
}

#[test]
fn it_is_due_with_a_third_of_its_life_left_or_with_other_names() {
    let directory = tempdir().unwrap();
    let names = [exact("home.test"), wildcard("home.test")];
    let (certificate, _) = made(directory.path(), &names);
    let third = certificate.not_after() - LIFE / 3;
    let second = Duration::from_secs(1);
    assert!(!is_due(&certificate, &names, third - second));
    assert!(is_due(&certificate, &names, third));
    assert!(is_due(&certificate, &names, day(1000)));
    assert!(!is_due(&certificate, &names, day(-100)), "a clock behind must not cost the clients' trust");

    let reordered = [wildcard("home.test"), exact("home.test")];
    assert!(!is_due(&certificate, &reordered, day(1)));
    assert!(is_due(&certificate, &names[..1], day(1)));
    assert!(is_due(&certificate, &[exact("home.test"), exact("home.test2")], day(1)));
}

#[test]
fn an_address_as_a_name_is_not_due_at_every_look() {
    let directory = tempdir().unwrap();
    let names = [exact("192.168.1.5")];
    let (certificate, _) = made(directory.path(), &names);
    assert!(!is_due(&certificate, &names, day(1)));
}

#[test]
fn no_host_name_leaves_the_directory_or_shares_a_file() {
    let hosts = [
        (exact("home.test"), "home.test"),
        (wildcard("home.test"), "_.home.test"),
        (exact("_.home.test"), "__.home.test"),
        (exact("../../etc/x"), "..%..%etc%x"),
        (exact("a/b"), "a%b"),
        (exact("a\0b"), "a_00b"),
    ];
    for (host, stem) in hosts {
        let own = files(Path::new("/state"), &host);
        assert_eq!(own.key_file.parent(), Some(Path::new("/state/self-signed")));
        assert_eq!(file_stem(&host), stem.replace('%', "_2f"));
    }
}

#[test]
fn the_key_is_not_in_debug_output() {
    let names = [exact("home.test")];
    let (_, pair) = make(&names, &files(Path::new("/state"), &names[0]), day(0)).unwrap();
    assert_eq!(format!("{pair:?}"), "PemPair { .. }");
}
