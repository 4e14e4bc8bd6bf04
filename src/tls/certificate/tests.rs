use std::fs;
use std::time::Duration;

use proptest::prelude::*;
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use tempfile::tempdir;

use super::super::fixtures::{day, exact, files_in, issue, issue_for, wildcard};
use super::*;

fn load_pair(chain: &str, key: &str) -> Result<Certificate, CertificateError> {
    let directory = tempdir().unwrap();
    let files = files_in(directory.path());
    fs::write(&files.chain_file, chain).unwrap();
    fs::write(&files.key_file, key).unwrap();
    Certificate::load(&files, day(1))
}

#[test]
fn every_kind_of_key_is_taken_in_every_form() {
    let names = &["home.example.com"];
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA256] {
        let issued = issue_for(names, algorithm, day(0), day(90));
        load_pair(&issued.chain, &issued.key).unwrap();
        let old_label = match algorithm {
            rsa if *rsa == PKCS_RSA_SHA256 => "RSA PRIVATE KEY",
            // Has no older form.
            ed25519 if *ed25519 == PKCS_ED25519 => continue,
            _ => "EC PRIVATE KEY",
        };
        load_pair(&issued.chain, &issued.old_key_pem(old_label)).unwrap();
    }
}

#[test]
fn facts_come_from_the_first_certificate() {
    let leaf = issue(&["Home.Example.com", "*.home.example.com"]);
    let other = issue(&["ca.example.com"]);
    let loaded = load_pair(&format!("{}{}", leaf.chain, other.chain), &leaf.key).unwrap();
    assert_eq!(loaded.dns_names(), ["home.example.com", "*.home.example.com"]);
    assert_eq!((loaded.not_before(), loaded.not_after()), (day(0), day(90)));
    assert_eq!(loaded.sha256(), sha256(&leaf.der));
    assert_eq!(loaded.certified_key().cert.len(), 2);
}

#[test]
fn a_chain_in_the_wrong_order_or_with_another_key_is_refused() {
    let (leaf, other) = (issue(&["a.test"]), issue(&["b.test"]));
    let wrong_order = format!("{}{}", other.chain, leaf.chain);
    for (chain, key) in [(&wrong_order, &leaf.key), (&leaf.chain, &other.key)] {
        assert!(matches!(load_pair(chain, key), Err(CertificateError::KeyMismatch { .. })));
    }
    // Certificate and key in one file, as HAProxy wants them, are fine.
    let both = format!("{}{}", leaf.key, leaf.chain);
    load_pair(&both, &both).unwrap();
}

#[test]
fn each_kind_of_broken_file_has_its_own_error() {
    use CertificateError as E;
    type Expected = fn(&CertificateError) -> bool;
    let good = issue(&["a.test"]);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old_encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let not_a_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let not_base64 = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let cut_off = &good.chain[..good.chain.len() / 2];
    let second_damaged = format!("{}{not_x509}", good.chain);
    let cases: &[(&str, &str, Expected)] = &[
        ("", &good.key, |e| matches!(e, E::NoCertificate { .. })),
        (&good.key, &good.key, |e| matches!(e, E::NoCertificate { .. })),
        (cut_off, &good.key, |e| matches!(e, E::DamagedCertificate { position: 1, .. })),
        (not_x509, &good.key, |e| matches!(e, E::DamagedCertificate { position: 1, .. })),
        (not_base64, &good.key, |e| matches!(e, E::DamagedCertificate { position: 1, .. })),
        (&second_damaged, &good.key, |e| matches!(e, E::DamagedCertificate { position: 2, .. })),
        (&good.chain, "", |e| matches!(e, E::NoKey { .. })),
        (&good.chain, &good.chain, |e| matches!(e, E::NoKey { .. })),
        (&good.chain, encrypted, |e| matches!(e, E::EncryptedKey { .. })),
        (&good.chain, old_encrypted, |e| matches!(e, E::EncryptedKey { .. })),
        (&good.chain, not_a_key, |e| matches!(e, E::UnusableKey { .. })),
    ];
    for (chain, key, is_expected) in cases {
        let error = load_pair(chain, key).unwrap_err();
        assert!(is_expected(&error), "{error:?}\nchain:\n{chain}");
        let text = error.to_string();
        assert!(text.contains("fullchain.pem") || text.contains("privkey.pem"), "{text}");
    }
}

#[test]
fn files_are_read_only_if_regular_and_bounded() {
    let directory = tempdir().unwrap();
    let files = issue(&["a.test"]).write(directory.path());
    let with_chain = |path: &Path| CertificateFiles { chain_file: path.to_owned(), key_file: files.key_file.clone() };
    for path in [directory.path(), Path::new("/dev/zero"), &directory.path().join("missing")] {
        let error = Certificate::load(&with_chain(path), day(1)).unwrap_err();
        assert!(matches!(error, CertificateError::Unreadable { .. }), "{error}");
    }
    let mut content = fs::read(&files.chain_file).unwrap();
    content.resize(MAX_FILE_BYTES as usize, b'\n');
    fs::write(&files.chain_file, &content).unwrap();
    Certificate::load(&files, day(1)).unwrap();
    content.push(b'\n');
    fs::write(&files.chain_file, &content).unwrap();
    assert!(matches!(Certificate::load(&files, day(1)), Err(CertificateError::TooLarge { .. })));
}

#[test]
fn it_is_in_force_from_five_minutes_early_to_its_last_second() {
    let directory = tempdir().unwrap();
    let files = issue(&["a.test"]).write(directory.path());
    let second = Duration::from_secs(1);
    let load = |now| Certificate::load(&files, now);
    assert!(matches!(load(day(0) - CLOCK_SKEW - second), Err(CertificateError::NotYetValid { .. })));
    load(day(0) - CLOCK_SKEW).unwrap();
    load(day(90)).unwrap();
    assert!(matches!(load(day(90) + second), Err(CertificateError::Expired { .. })));
    let error = load(day(91)).unwrap_err().to_string();
    assert!(error.contains("expired at 2030-04-01T00:00:00Z"), "{error}");
    Certificate::load_with(&files, Validity::Ignored).unwrap();
}

#[test]
fn dates_outside_the_usual_range_can_be_printed() {
    for (seconds, text) in
        [(-1, "1970-01-01T00:00:00Z"), (i64::MIN, "1970-01-01T00:00:00Z"), (i64::MAX, "9999-12-31T23:59:59Z")]
    {
        assert_eq!(date(&system_time(seconds)).to_string(), text);
    }
    let old = issue_for(&["a.test"], &PKCS_ECDSA_P256_SHA256, UNIX_EPOCH - Duration::from_secs(9), UNIX_EPOCH);
    let error = load_pair(&old.chain, &old.key).unwrap_err().to_string();
    assert!(error.contains("1970-01-01T00:00:00Z"), "{error}");
}

#[test]
fn no_error_and_no_debug_output_quotes_a_key() {
    let issued = issue(&["a.test"]);
    let secret = issued.key.lines().nth(1).unwrap();
    let on_one_line = issued.key.replace('\n', "");
    let cut_off = &issued.key[..issued.key.len() / 2];
    let cases = [
        (issued.chain.as_str(), on_one_line.as_str()),
        (&issued.chain, cut_off),
        (&on_one_line, &issued.key),
        (&issued.key, &issued.chain),
    ];
    for (chain, key) in cases {
        let error = load_pair(chain, key).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&secret[..16]), "{error}");
    }
    let loaded = load_pair(&issued.chain, &issued.key).unwrap();
    let scalar = issued.key_der.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let debug = format!("{loaded:?} {:?}", loaded.certified_key().key);
    assert!(!debug.contains(&scalar[scalar.len() / 2..]) && !debug.contains(&secret[..16]), "{debug}");
}

#[test]
fn a_wildcard_covers_exactly_one_label() {
    let cases = [
        ("home.example.com", exact("home.example.com"), true),
        ("HOME.example.com", exact("home.example.com"), true),
        ("home.example.com", exact("home.example.org"), false),
        ("*.example.com", exact("home.example.com"), true),
        ("*.Example.com", exact("home.example.com"), true),
        ("*.example.com", exact("example.com"), false),
        ("*.example.com", exact("a.home.example.com"), false),
        ("*.example.com", exact(".example.com"), false),
        ("*.example.com", exact("homeexample.com"), false),
        ("h*.example.com", exact("home.example.com"), false),
        ("*", exact("home"), false),
        ("*.", exact("home."), false),
        ("*.example.com", wildcard("example.com"), true),
        ("*.com", wildcard("example.com"), false),
        ("home.example.com", wildcard("example.com"), false),
        ("example.com", wildcard("example.com"), false),
    ];
    for (certificate_name, host, expected) in cases {
        assert_eq!(covers(certificate_name, &host), expected, "{certificate_name} {host:?}");
    }
}

proptest! {
    /// The model compares label by label.
    #[test]
    fn covers_agrees_with_comparing_labels(
        own in "(\\*\\.)?[ab]{1,2}(\\.[ab]){0,2}",
        host in "[ab]{1,2}(\\.[ab]){0,3}",
    ) {
        let (left, right): (Vec<_>, Vec<_>) = (own.split('.').collect(), host.split('.').collect());
        let is_covered = left.len() == right.len()
            && left.iter().zip(&right).enumerate().all(|(i, (l, r))| l == r || (i == 0 && *l == "*"));
        prop_assert_eq!(covers(&own, &exact(&host)), is_covered);
    }

    #[test]
    fn no_input_makes_the_parsers_panic(text in "(-----BEGIN (CERTIFICATE|PRIVATE KEY)-----\n)?[A-Za-z0-9+/=\n -]{0,200}") {
        let path = Path::new("x.pem");
        let _ = parse_chain(text.as_bytes(), path);
        let _ = parse_key(text.as_bytes(), path);
    }
}
