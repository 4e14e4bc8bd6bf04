//! The decisions that every request pays for, without any I/O: `cargo bench --bench decisions`.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use hearthgate::client::verified_client;
use hearthgate::config::{ForwardedHeader, HostPattern, TrustedProxies};
use hearthgate::routing::{HostTable, normal_host};
use http::{HeaderMap, HeaderValue};

/// More hosts than any home has: the time must not grow with them.
const HOSTS: usize = 200;

fn table() -> HostTable<usize> {
    let mut table = HostTable::default();
    for host in 0..HOSTS {
        table.insert(&HostPattern::Exact(format!("host{host}.example.org")), Arc::new(host));
        table.insert(&HostPattern::Wildcard(format!("zone{host}.example.org")), Arc::new(host));
    }
    table
}

fn route(c: &mut Criterion) {
    let table = table();
    let mut group = c.benchmark_group("route");
    for (case, name) in [
        ("exact name", "host150.example.org"),
        ("wildcard", "ha.zone150.example.org"),
        ("unknown name", "nobody.example.net"),
    ] {
        group.bench_function(case, |b| b.iter(|| table.find(black_box(name)).is_some()));
    }
    group.bench_function("host to normal form", |b| b.iter(|| normal_host(black_box("HA.Example.org.:8443"))));
    group.finish();
}

fn fields(forwarded_for: &'static str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in [
        ("host", "ha.example.org"),
        ("user-agent", "Mozilla/5.0"),
        ("accept", "*/*"),
        ("x-forwarded-for", forwarded_for),
        ("accept-encoding", "gzip, br"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    fields
}

fn client(c: &mut Criterion) {
    let network = |text: &str| text.parse().expect("a network");
    let trusted = TrustedProxies {
        networks: vec![network("10.0.0.0/8"), network("172.16.0.0/12"), network("fd00::/8")],
        header: ForwardedHeader::XForwardedFor,
    };
    let (stranger, proxy) = (IpAddr::from([203, 0, 113, 9]), IpAddr::from([10, 0, 0, 7]));
    let long = "6.6.6.6, 198.51.100.1, 2001:db8::9, 10.0.0.3, 10.0.0.7";
    let mut group = c.benchmark_group("client");
    for (case, peer, forwarded_for) in [
        ("a stranger, whose word does not count", stranger, long),
        ("behind a trusted proxy", proxy, "203.0.113.9"),
        ("behind a chain of five", proxy, long),
    ] {
        let fields = fields(forwarded_for);
        group.bench_function(case, |b| b.iter(|| verified_client(black_box(peer), &fields, &trusted)));
    }
    group.finish();
}

criterion_group!(benches, route, client);
criterion_main!(benches);
