use super::fixtures::config;
use super::*;

#[test]
fn hosts_that_name_the_same_share_a_certificate() {
    let config = config(
        "",
        &[
            ("a.example.org", "acme"),
            ("b.example.org", "{acme: {names: [c.example.org, b.example.org], on_failure: refuse}}"),
            ("c.example.org", "{acme: {names: [c.example.org, b.example.org]}}"),
            ("d.example.org", "{chain_file: a, key_file: b}"),
        ],
    );
    let found: Vec<_> = wanted(&config).unwrap().into_iter().map(|wanted| (wanted.name(), wanted.hosts)).collect();
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        found,
        [
            ("a.example.org".to_owned(), own(&["a.example.org"])),
            ("c.example.org".to_owned(), own(&["b.example.org", "c.example.org"])),
        ]
    );
}

#[test]
fn a_certificate_is_known_by_its_first_name() {
    for other in [
        "{acme: {names: [example.org, b.example.org]}}",
        "{acme: {names: [example.org, a.example.org, b.example.org], profile: shortlived}}",
        "{acme: {names: [example.org, a.example.org, b.example.org], challenges: [tls-alpn-01]}}",
    ] {
        let first = "{acme: {names: [example.org, a.example.org, b.example.org]}}";
        let errors = wanted(&config("", &[("a.example.org", first), ("b.example.org", other)])).unwrap_err();
        assert_eq!(
            errors,
            ["hosts.b.example.org.certificate.acme: the certificate of a.example.org begins with `example.org` too, \
              and differs from this one: let one of them begin with another name, or make names, challenges and \
              profile the same"]
        );
    }
}
