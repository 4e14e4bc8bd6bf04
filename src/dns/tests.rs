//! From the challenge's name to a record that all servers show, and back.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use domain::base::Rtype;
use domain::base::iana::Rcode;

use super::fixtures::{Entry, WebServer, World, http_client, name};
use super::propagation::Pace;
use super::provider::Account;
use super::resolver::Resolver;
use super::*;
use crate::config::{DnsProvider, Rfc2136, Secret, TsigAlgorithm};

/// The home's resolver, which knows the way.
const HOME: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// The zone's own servers.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const RECORD: &str = "_acme-challenge.ha.anna.duckdns.org";
const MINUTE: Duration = Duration::from_secs(60);
const TOKEN: &str = "a7c4d0ad-114e-40ef-ba1d-d217904a50f2";

/// A world in which duckdns.org has two servers.
async fn duckdns_org() -> (World, u16) {
    let world = World::default();
    world.set(HOME, "duckdns.org", &[Entry::Soa, Entry::Ns("ns1.duckdns.org"), Entry::Ns("ns2.duckdns.org")]);
    world.set(HOME, "ns1.duckdns.org", &[Entry::A(FIRST)]);
    world.set(HOME, "ns2.duckdns.org", &[Entry::A(SECOND)]);
    let port = world.serve(&[HOME, FIRST, SECOND]).await;
    (world, port)
}

fn duckdns(url: String, zones: &[&str]) -> DnsAccount {
    let provider = DnsProvider::DuckDns { token: Secret::new(TOKEN.to_owned()), url };
    account("duck", zones, provider)
}

fn account(name: &str, zones: &[&str], provider: DnsProvider) -> DnsAccount {
    DnsAccount { name: name.to_owned(), zones: zones.iter().map(|zone| (*zone).to_owned()).collect(), provider }
}

fn dns(accounts: &[DnsAccount], port: u16) -> Dns {
    let pace = Pace { timeout: MINUTE, first: Duration::from_millis(5), longest: Duration::from_millis(20) };
    let http = http_client();
    Dns {
        accounts: accounts.iter().map(|account| Account::new(account, &http)).collect(),
        resolver: resolver(port, MINUTE),
        pace: Some(pace),
    }
}

fn resolver(port: u16, patience: Duration) -> Resolver {
    Resolver::new(&[SocketAddr::from((HOME, port))], port, patience)
}

/// Looks for so long only.
fn hurried(dns: &mut Dns, timeout: Duration) {
    dns.pace = dns.pace.map(|pace| Pace { timeout, ..pace });
}

/// The targets of what DuckDNS was asked, without domain and token.
fn asked(server: &WebServer) -> Vec<String> {
    let seen = server.seen().into_iter();
    seen.map(|seen| seen.target.split_once("&token=").unwrap().1.split_once('&').unwrap().1.to_owned()).collect()
}

/// A DuckDNS whose servers show what it was told: each of `servers` at once.
async fn stand_in(world: &World, servers: &'static [Ipv4Addr]) -> WebServer {
    let world = world.clone();
    WebServer::start(move |request| {
        let value = request.target.split_once("&txt=").unwrap().1.split('&').next().unwrap().to_owned();
        let entries = if request.target.ends_with("clear=true") { Vec::new() } else { vec![Entry::Txt(value)] };
        for server in servers {
            world.set(*server, RECORD, &entries);
        }
        (200, "OK".to_owned())
    })
    .await
}

#[tokio::test]
async fn a_record_is_presented_when_all_servers_show_it_and_withdrawn_after() {
    let (world, port) = duckdns_org().await;
    let server = stand_in(&world, &[FIRST, SECOND]).await;
    let dns = dns(&[duckdns(server.url(), &["duckdns.org"])], port);
    let presented = dns.present("Ha.Anna.DuckDNS.org", "value-1").await.unwrap();
    assert_eq!(asked(&server), ["txt=value-1"]);
    dns.withdraw(presented).await.unwrap();
    assert_eq!(asked(&server), ["txt=value-1", "txt=value-1&clear=true"]);
}

#[tokio::test]
async fn a_server_that_lags_behind_is_waited_for() {
    let (world, port) = duckdns_org().await;
    let server = stand_in(&world, &[FIRST]).await;
    world.set(SECOND, RECORD, &[Entry::Txt("of-last-month".to_owned())]);
    let dns = dns(&[duckdns(server.url(), &["duckdns.org"])], port);
    let late = async {
        let looks = |server| world.asked().iter().filter(|(asked, ..)| *asked == server).count();
        while looks(SECOND) < 3 {
            tokio::task::yield_now().await;
        }
        world.set(SECOND, RECORD, &[Entry::Txt("value-1".to_owned())]);
    };
    let (presented, ()) = tokio::join!(dns.present("ha.anna.duckdns.org", "value-1"), late);
    dns.withdraw(presented.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_never_shows_it_is_named_and_nothing_is_left_behind() {
    let (world, port) = duckdns_org().await;
    let server = stand_in(&world, &[FIRST]).await;
    world.set(SECOND, RECORD, &[Entry::Txt("of-last-month".to_owned())]);
    let mut dns = dns(&[duckdns(server.url(), &["duckdns.org"])], port);
    hurried(&mut dns, Duration::from_millis(100));
    let error = dns.present("ha.anna.duckdns.org", "value-1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the TXT record `_acme-challenge.ha.anna.duckdns.org` is not on all servers of its zone after 0 s: expected \
         \"value-1\"; ns1.duckdns.org (127.0.0.2) shows \"value-1\"; ns2.duckdns.org (127.0.0.3) shows \
         \"of-last-month\". If they are merely slow, set `acme.propagation.timeout` higher"
    );
    assert_eq!(asked(&server), ["txt=value-1", "txt=value-1&clear=true"]);
}

#[tokio::test]
async fn a_server_that_fails_counts_and_one_that_is_away_does_not() {
    for (second, port_is_open, good) in [
        (Entry::Failure(Rcode::SERVFAIL), true, false),
        (Entry::Silence, true, true),
        (Entry::Txt("value-1".to_owned()), true, true),
        (Entry::Silence, false, true),
    ] {
        let (world, port) = duckdns_org().await;
        let server = stand_in(&world, &[FIRST]).await;
        if !port_is_open {
            world.set(HOME, "ns2.duckdns.org", &[Entry::A(Ipv4Addr::new(127, 0, 0, 77))]);
        }
        world.set(SECOND, RECORD, std::slice::from_ref(&second));
        let mut dns = dns(&[duckdns(server.url(), &["duckdns.org"])], port);
        dns.resolver = resolver(port, Duration::from_millis(400));
        hurried(&mut dns, if good { MINUTE } else { Duration::from_millis(50) });
        match dns.present("ha.anna.duckdns.org", "value-1").await {
            Ok(presented) => {
                assert!(good, "{second:?}");
                dns.withdraw(presented).await.unwrap();
            }
            Err(error) => assert!(!good && error.to_string().contains("SERVFAIL"), "{second:?} {error}"),
        }
    }
}

#[tokio::test]
async fn without_any_server_within_reach_nothing_is_believed() {
    let (world, port) = duckdns_org().await;
    let server = stand_in(&world, &[]).await;
    for away in [FIRST, SECOND] {
        world.set(away, RECORD, &[Entry::Silence]);
    }
    let mut dns = dns(&[duckdns(server.url(), &["duckdns.org"])], port);
    dns.resolver = resolver(port, Duration::from_millis(400));
    hurried(&mut dns, Duration::from_millis(50));
    let error = dns.present("ha.anna.duckdns.org", "value-1").await.unwrap_err().to_string();
    assert!(error.contains("cannot be reached: no answer within 0.4 s"), "{error}");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_a_datagram_is_fetched_by_tcp() {
    let (world, port) = duckdns_org().await;
    let server = WebServer::start(|_| (200, "OK".to_owned())).await;
    for holder in [FIRST, SECOND] {
        world.set(holder, RECORD, &[Entry::Truncated("value-1".to_owned())]);
    }
    let dns = dns(&[duckdns(server.url(), &["duckdns.org"])], port);
    dns.withdraw(dns.present("ha.anna.duckdns.org", "value-1").await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_cname_leads_to_another_zone_and_its_account() {
    let (world, port) = duckdns_org().await;
    world.set(HOME, "_acme-challenge.ha.example.org", &[Entry::Cname("elsewhere.example.net")]);
    world.set(HOME, "elsewhere.example.net", &[Entry::Cname("_acme-challenge.ha.anna.duckdns.org")]);
    let server = stand_in(&world, &[FIRST, SECOND]).await;
    let script = DnsProvider::Exec { command: PathBuf::from("/nonexistent"), timeout: Duration::from_secs(1) };
    let accounts = [account("script", &["example.org"], script), duckdns(server.url(), &["duckdns.org"])];
    let dns = dns(&accounts, port);
    let presented = dns.present("ha.example.org", "value-1").await.unwrap();
    assert_eq!((presented.account.as_str(), presented.record.as_str()), ("duck", RECORD));
    assert_eq!(server.seen()[0].target, format!("/update?domains=anna&token={TOKEN}&txt=value-1"));
    dns.withdraw(presented).await.unwrap();
}

#[tokio::test]
async fn cnames_in_a_circle_end() {
    let (world, port) = duckdns_org().await;
    world.set(HOME, RECORD, &[Entry::Cname("a.duckdns.org")]);
    world.set(HOME, "a.duckdns.org", &[Entry::Cname(RECORD)]);
    let resolver = resolver(port, MINUTE);
    assert_eq!(resolver.chain(&name(RECORD)).await.unwrap(), [name(RECORD), name("a.duckdns.org")]);
    let hops = ["b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b9", "b10", "b11"];
    for pair in hops.windows(2) {
        world.set(HOME, pair[0], &[Entry::Cname(pair[1])]);
    }
    assert_eq!(resolver.chain(&name("b1")).await.unwrap().len(), 9);
}

#[tokio::test]
async fn the_next_resolver_is_asked_where_one_fails() {
    let (world, port) = duckdns_org().await;
    world.set(SECOND, "anna.duckdns.org", &[Entry::Failure(Rcode::REFUSED)]);
    for name in ["duckdns.org", "ns1.duckdns.org", "ns2.duckdns.org"] {
        world.set(SECOND, name, &[Entry::Failure(Rcode::SERVFAIL)]);
    }
    let resolvers: Vec<_> = [Ipv4Addr::new(127, 0, 0, 78), SECOND, HOME].map(|ip| SocketAddr::from((ip, port))).into();
    let resolver = Resolver::new(&resolvers, port, MINUTE);
    assert_eq!(resolver.zone(&name("anna.duckdns.org")).await.unwrap().servers.len(), 2);
    let resolver = Resolver::new(&resolvers[..1], port, MINUTE);
    let error = resolver.zone(&name("anna.duckdns.org")).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("no resolver answers: 127.0.0.78:{port}: ")), "{error}");
}

#[tokio::test]
async fn a_name_without_a_zone_is_said_to_be_so() {
    let (_, port) = duckdns_org().await;
    let dns = dns(&[], port);
    let error = dns.addresses("ha.example.com").await.unwrap_err().to_string();
    assert!(error.contains("no zone of `ha.example.com` is known: no such name (NXDOMAIN)"), "{error}");
}

#[tokio::test]
async fn addresses_are_those_of_the_name_itself() {
    let (world, port) = duckdns_org().await;
    let dns = dns(&[], port);
    let home = Ipv4Addr::new(203, 0, 113, 7);
    world.set(FIRST, "anna.duckdns.org", &[Entry::Silence]);
    world.set(SECOND, "anna.duckdns.org", &[Entry::A(home)]);
    assert_eq!(dns.addresses("Anna.duckdns.org").await.unwrap(), Addresses { ipv4: Some(home), ipv6: None });
    assert_eq!(dns.addresses("nobody.duckdns.org").await.unwrap(), Addresses::default());
    let recursion_for_the_way_only =
        world.asked().into_iter().all(|(server, _, kind)| server != HOME || !matches!(kind, Rtype::TXT));
    assert!(recursion_for_the_way_only);
}

#[tokio::test]
async fn without_the_check_nobody_is_asked() {
    let (world, port) = duckdns_org().await;
    let server = stand_in(&world, &[]).await;
    let mut dns = dns(&[duckdns(server.url(), &[])], port);
    dns.pace = None;
    let presented = dns.present("ha.anna.duckdns.org", "value-1").await.unwrap();
    assert!(world.asked().iter().all(|(server, ..)| *server == HOME));
    dns.withdraw(presented).await.unwrap();
}

#[tokio::test]
async fn a_name_that_nobody_speaks_for_is_said_to_be_so() {
    let (_, port) = duckdns_org().await;
    let dns = dns(&[duckdns(String::new(), &["duckdns.org"])], port);
    let error = dns.present("ha.example.org", "value-1").await.unwrap_err().to_string();
    let expected = "no account in `dns` speaks for `_acme-challenge.ha.example.org`: add one, or the name to an \
                    account's `zones`";
    assert_eq!(error, expected);
    let error = dns.point("ha.example.org", Addresses::default()).await.unwrap_err();
    assert!(matches!(error, DnsError::NoAccount { .. }), "{error}");
}

#[tokio::test]
async fn a_record_that_may_have_been_set_is_withdrawn_and_one_that_was_refused_is_not() {
    for (status, answer, expected) in
        [(502, "<html>", &["txt=value-1", "txt=value-1&clear=true"][..]), (200, "KO", &["txt=value-1"])]
    {
        let (_, port) = duckdns_org().await;
        let server = WebServer::start(move |_| (status, answer.to_owned())).await;
        let dns = dns(&[duckdns(server.url(), &["duckdns.org"])], port);
        dns.present("ha.anna.duckdns.org", "value-1").await.unwrap_err();
        assert_eq!(asked(&server), expected);
    }
}

/// Whatever goes wrong with whichever provider, neither the sentence nor `Debug` shows what is secret.
#[tokio::test]
async fn no_failure_shows_a_token() {
    let (_, port) = duckdns_org().await;
    let echo = |request: &super::fixtures::Seen| {
        let message = format!("{} {:?} {}", request.target, request.authorization, request.body);
        (403, serde_json::json!({ "success": false, "errors": [{ "code": 1, "message": message }] }).to_string())
    };
    let web = [
        WebServer::start(echo).await,
        WebServer::start(|request| (200, request.target.clone())).await,
        WebServer::start(|_| (200, "KO".to_owned())).await,
        WebServer::gone().await,
    ];
    let mut accounts = Vec::new();
    for server in &web {
        accounts.push(duckdns(server.url(), &[]));
        let provider = DnsProvider::Cloudflare { token: Secret::new(TOKEN.to_owned()), url: server.url() };
        accounts.push(account("cloud", &[], provider));
    }
    for url in ["nonsense", "http://"] {
        accounts.push(duckdns(url.to_owned(), &[]));
    }
    for (key, algorithm) in [(TOKEN, TsigAlgorithm::HmacSha256), ("YTdjNGQwYWQ=", TsigAlgorithm::HmacSha512)] {
        let server = SocketAddr::from((HOME, port));
        let (key, key_name) = (Secret::new(key.to_owned()), "key".to_owned());
        accounts.push(account("rfc", &[], DnsProvider::Rfc2136(Rfc2136 { server, key_name, algorithm, key })));
    }
    for account in accounts {
        let dns = dns(std::slice::from_ref(&account), port);
        let addresses = Addresses { ipv4: Some(HOME), ipv6: None };
        let errors = [
            dns.present("anna.duckdns.org", "value-1").await.unwrap_err(),
            dns.point("anna.duckdns.org", addresses).await.unwrap_err(),
        ];
        for error in errors {
            let shown = format!("{error} {error:?} {dns:?}");
            assert!(!shown.contains(TOKEN) && !shown.contains("YTdjNGQwYWQ="), "{shown}");
            assert!(!shown.contains("/update?"), "{shown}");
        }
    }
}
