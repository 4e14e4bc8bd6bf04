//! What the guard costs a request, alone and under attack: `cargo bench --bench guard`.

mod flood;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use hearthgate::app::Reach;
use hearthgate::bans::{BanList, DEFAULT_CAPACITY, Escalation};
use hearthgate::client::ClientAddr;
use hearthgate::clock::Moment;
use hearthgate::config::{Rate, RateLimit, RateLimits, RequestClass};
use hearthgate::guard::fingerprint::Fingerprint;
use hearthgate::guard::rate_limit::{BucketKey, Buckets, Limit};
use hearthgate::guard::{Asked, Outcome, Policy, Tried, Visitor, Who};
use hearthgate::metrics::Metrics;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use flood::{HOST, STRANGERS, Scene, asked, token_text};

/// The allocator of the gate.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Nobody has come yet.
fn quiet() -> Scene {
    Scene::new(Arc::new(BanList::new(DEFAULT_CAPACITY)), Arc::new(Metrics::new()))
}

/// Fills every store: each of a million addresses asks for everything, begins a login, shows a bad bearer and fails as
/// often as it may; every eighth once more, which bans it.
fn besieged() -> Scene {
    let scene = quiet();
    for n in 0..STRANGERS {
        scene.ask_for_everything(n);
        scene.refuse(n);
        scene.begin_flow(n);
        scene.refuse_bearer(n);
        scene.fail(n, scene.tolerated() + u32::from(n % 8 == 0));
    }
    scene
}

fn address(n: u32) -> ClientAddr {
    ClientAddr::new(Ipv4Addr::from(0xc000_0000 + n).into())
}

/// Runs `work` on another thread for as long as `measure` takes.
fn beside(work: impl Fn() + Sync, measure: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                work();
            }
        });
        measure();
        is_over.store(true, Relaxed);
    });
}

/// Steps through 65,536 keys, far apart from one to the next.
fn walk(start: u32) -> impl FnMut() -> u32 {
    let mut n = start;
    move || {
        n = (n + 7919) % 65_536;
        n
    }
}

fn admit(c: &mut Criterion) {
    let mut group = c.benchmark_group("admit");
    let empty = passing(quiet());
    admit_alone(&mut group, "empty", &empty);
    let full = passing(besieged());
    admit_alone(&mut group, "1 M strangers", &full);
    admit_together(&mut group, &full);
    group.finish();
}

/// With a budget of static files that lasts, because what is measured is passing.
fn passing(scene: Scene) -> Scene {
    let plenty = RateLimit { rate: Rate::per_second(10_000_000), burst: 1_000_000, dry_run: false };
    let rate_limits = RateLimits { static_files: Some(plenty), ..scene.policy.rate_limits };
    let policy = Policy { rate_limits, ..(*scene.policy).clone() };
    Scene { policy: Arc::new(policy), ..scene }
}

fn admit_alone(group: &mut BenchmarkGroup<'_, WallTime>, state: &str, scene: &Scene) {
    let (home, page) = (address(70_000), asked(RequestClass::Static));
    let bearer = scene.known_device(home);
    let mut fresh = walk(0);
    group.bench_function(format!("{state}/a stranger"), |b| {
        b.iter(|| scene.request(black_box(address(fresh())), &[], &page).is_ok());
    });
    group.bench_function(format!("{state}/a known device"), |b| {
        b.iter(|| scene.request(black_box(home), &[bearer], &page).is_ok());
    });
    let cookie = scene.token(0);
    group.bench_function(format!("{state}/a known device with two credentials"), |b| {
        b.iter(|| scene.request(black_box(home), &[cookie, bearer], &page).is_ok());
    });
    let (token, headers) = (token_text(u64::from(u32::MAX) + 1), with_cookie(scene));
    group.bench_function(format!("{state}/a known device, its bearer hashed"), |b| {
        b.iter(|| {
            let shown = scene.guard.proof(HOST, black_box(token.as_bytes()));
            scene.request(home, &[shown], &page).is_ok_and(|visitor| visitor.device.is_some())
        });
    });
    group.bench_function(format!("{state}/a known device, its cookie read"), |b| {
        b.iter(|| {
            let shown = scene.guard.cookie(HOST, black_box(&headers));
            scene.request(home, shown.as_slice(), &page).is_ok_and(|visitor| visitor.device.is_some())
        });
    });
    let session = of_a_session();
    group.bench_function(format!("{state}/a stranger, refused"), |b| {
        b.iter(|| scene.request(black_box(address(fresh())), &[], &session).is_err());
    });
}

/// The fields of a browser that has proven a session.
fn with_cookie(scene: &Scene) -> HeaderMap {
    let cookie = scene.guard.mint_cookie(HOST).expect("random bytes");
    scene.guard.prove(cookie.fingerprint, 1, Duration::from_secs(1800), scene.home(address(70_000)));
    let field = cookie.to_field(60);
    let crumb = field.as_bytes().split(|byte| *byte == b';').next().expect("a first part");
    [(COOKIE, HeaderValue::from_bytes(crumb).expect("the gate's own"))].into_iter().collect()
}

/// What only a session may see.
fn of_a_session() -> Asked {
    Asked { reach: Reach::Session, ..asked(RequestClass::Api) }
}

fn admit_together(group: &mut BenchmarkGroup<'_, WallTime>, scene: &Scene) {
    let page = asked(RequestClass::Static);
    let request = |client| scene.request(client, &[], &page).is_ok();
    let same = address(80_000);
    let mut fresh = walk(0);
    let other = AtomicU32::new(0);
    beside(
        || _ = request(address(100_000 + other.fetch_add(7919, Relaxed) % 65_536)),
        || {
            group.bench_function("2 threads/different strangers", |b| b.iter(|| request(black_box(address(fresh())))));
        },
    );
    beside(
        || _ = request(same),
        || {
            group.bench_function("2 threads/the same stranger", |b| b.iter(|| request(black_box(same))));
        },
    );
}

/// What a request shows is hashed before the guard is asked.
fn credentials(c: &mut Criterion) {
    let scene = quiet();
    let (guard, token, headers) = (&scene.guard, token_text(1), with_cookie(&scene));
    let mut group = c.benchmark_group("credentials");
    group.bench_function("a bearer", |b| b.iter(|| guard.proof(HOST, black_box(token.as_bytes()))));
    group.bench_function("the gate's cookie", |b| b.iter(|| guard.cookie(HOST, black_box(&headers))));
    let none = HeaderMap::new();
    group.bench_function("no cookie", |b| b.iter(|| guard.cookie(HOST, black_box(&none))));
    group.finish();
}

fn rate_limit(c: &mut Criterion) {
    const CAPACITY: usize = 131_072;
    let limit = Limit::new(100, Duration::from_secs(1), 1000);
    let scene = quiet();
    let key = |n: u32| BucketKey::new(Who::Client(address(n).key()), RequestClass::Api, &scene.policy);
    let buckets = Buckets::new(CAPACITY);
    let take =
        |n: u32, now: Moment| buckets.update(key(n), now, Default::default, |bucket| bucket.take(limit, now)).is_ok();
    let mut group = c.benchmark_group("rate_limit");
    let mut next = walk(0);
    group.bench_function("65,536 clients", |b| b.iter(|| take(black_box(next()), Moment::START)));
    group.bench_function("one client", |b| b.iter(|| take(black_box(1), Moment::START)));
    let mut n = 0;
    for _ in 0..STRANGERS {
        n += 1;
        take(n, Moment::START);
    }
    group.bench_function("always another one, when it is full", |b| {
        b.iter(|| {
            n = n.wrapping_add(1);
            take(black_box(n), Moment::START)
        });
    });
    group.finish();
}

fn login(c: &mut Criterion) {
    let mut group = c.benchmark_group("login");
    login_alone(&mut group, "empty", &quiet());
    login_alone(&mut group, "1 M strangers", &besieged());
    group.finish();
}

fn login_alone(group: &mut BenchmarkGroup<'_, WallTime>, state: &str, scene: &Scene) {
    let visitor =
        |client| Visitor { client, device: None, is_proven: false, may_read: false, is_home: false, banned: None };
    let mut n = 0_u32;
    group.bench_function(format!("{state}/failed, always another stranger"), |b| {
        b.iter(|| {
            n += 1;
            scene.login(&visitor(address(n % (1 << 24))), n.into(), Outcome::Failed).is_ok()
        });
    });
    let home = visitor(address(70_000));
    let succeeded = Outcome::Succeeded { lifetime: Duration::from_secs(1800) };
    group.bench_function(format!("{state}/succeeded"), |b| {
        b.iter(|| scene.login(black_box(&home), 1, succeeded).is_ok());
    });
    let token: Fingerprint = scene.token(1);
    let tried = Tried { kind: "bearer", guess: 1, account: None, proof: Some(token), is_shared: true };
    for _ in 0..5 {
        scene.guard.devices().refuse(token, scene.now());
    }
    group.bench_function(format!("{state}/the same bad bearer again"), |b| {
        b.iter(|| scene.guard.begin(black_box(&home), tried, &scene.policy).is_err());
    });
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
    let other = AtomicU32::new(0);
    beside(
        || _ = full.find(banned_v4(other.fetch_add(7919, Relaxed) % (BANS / 2)), Moment::START),
        || {
            group.bench_function("100,000, a banned IPv4, beside another thread", |b| {
                b.iter(|| full.find(black_box(banned_v4(next())), Moment::START));
            });
        },
    );
    group.finish();
}

criterion_group!(benches, admit, credentials, rate_limit, login, bans);
criterion_main!(benches);
