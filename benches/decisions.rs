//! The decisions that every request pays for, without any I/O: `cargo bench --bench decisions`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use criterion::{Criterion, criterion_group, criterion_main};
use hearthgate::bans::{BanList, DEFAULT_CAPACITY, Escalation};
use hearthgate::client::{ClientAddr, verified_client};
use hearthgate::clock::Moment;
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

/// Half of them IPv4 addresses, half of them IPv6 networks, as the gate bans them.
fn ban_list(bans: u32) -> BanList {
    let list = BanList::new(DEFAULT_CAPACITY);
    for n in 0..bans / 2 {
        let (v4, v6) = (banned_v4(n), banned_v6(n));
        for network in [v4, v6].map(|ip| ClientAddr::new(ip).key().network()) {
            list.strike(network, &Escalation::default(), Moment::START);
        }
    }
    list
}

fn banned_v4(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + n).into()
}

fn banned_v6(n: u32) -> IpAddr {
    IpAddr::V6((0x2001_0db8_u128 << 96 | u128::from(n) << 64 | 9).into())
}

fn bans(c: &mut Criterion) {
    const BANS: u32 = 100_000;
    let (empty, full) = (BanList::new(DEFAULT_CAPACITY), ban_list(BANS));
    let stranger = |n: u32| IpAddr::from(Ipv4Addr::from(0xc000_0000 + n));
    let mut group = c.benchmark_group("bans");
    let mut n = 0;
    let mut next = move || {
        n = (n + 7919) % (BANS / 2);
        n
    };
    group
        .bench_function("none, a stranger", |b| b.iter(|| empty.is_banned(black_box(stranger(next())), Moment::START)));
    group.bench_function("100,000, a stranger", |b| {
        b.iter(|| full.is_banned(black_box(stranger(next())), Moment::START));
    });
    group.bench_function("100,000, a banned IPv4", |b| {
        b.iter(|| full.find(black_box(banned_v4(next())), Moment::START))
    });
    group.bench_function("100,000, a banned IPv6", |b| {
        b.iter(|| full.find(black_box(banned_v6(next())), Moment::START))
    });
    group.bench_function("one more when it is full", |b| {
        b.iter(|| {
            full.strike(ClientAddr::new(stranger(next())).key().network(), &Escalation::default(), Moment::START)
        });
    });
    let full = ban_list(BANS);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !is_over.load(Relaxed) {
                n = (n + 7919) % (BANS / 2);
                black_box(full.find(banned_v4(n), Moment::START));
            }
        });
        group.bench_function("100,000, a banned IPv4, beside another thread", |b| {
            b.iter(|| full.find(black_box(banned_v4(next())), Moment::START));
        });
        is_over.store(true, Relaxed);
    });
    group.finish();
}

criterion_group!(benches, route, client, bans);
criterion_main!(benches);
