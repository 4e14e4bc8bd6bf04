use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::bans::{Ban, Escalation, Reason};

const HOUR: Duration = Duration::from_secs(3600);

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    (directory, path)
}

fn open(path: &Path) -> Result<(Arc<BanList>, BanStore, Clock), StoreError> {
    let (list, clock) = (Arc::new(BanList::new(100_000)), Clock::start());
    let store = BanStore::open(path, list.clone(), clock)?;
    Ok((list, store, clock))
}

fn reopen(path: &Path) -> (Arc<BanList>, BanStore, Clock) {
    open(path).unwrap()
}

fn network(n: u32) -> IpNet {
    IpNet::new_assert(std::net::Ipv4Addr::from(0x0a00_0000 + n).into(), 32)
}

/// A file with a few thousand bans, closed.
fn filled(path: &Path) -> Vec<u8> {
    let (list, store, clock) = reopen(path);
    (0..3000).for_each(|n| drop(list.strike(network(n), &Escalation::default(), clock.now())));
    store.close();
    fs::read(path).unwrap()
}

fn set_aside(directory: &TempDir) -> Vec<String> {
    let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("bans.redb.unusable-")).collect()
}

fn seconds_apart(left: Duration, right: Duration) -> u64 {
    left.abs_diff(right).as_secs()
}

#[test]
fn bans_come_back_with_what_is_left_of_them() {
    let (_directory, path) = directory();
    let (list, store, clock) = reopen(&path);
    let reason = Reason::new("Scanner").unwrap();
    let strike = |text: &str| list.strike(text.parse().unwrap(), &Escalation::default(), clock.now());
    let add = |text: &str, reason| list.add(text.parse().unwrap(), HOUR, reason, clock.now()).unwrap();
    strike("192.0.2.1/32");
    strike("2001:db8::/64");
    strike("2001:db8::/64");
    add("203.0.113.0/24", Some(reason));
    add("198.51.100.0/24", None);
    assert!(list.remove("198.51.100.0/24".parse().unwrap(), clock.now()));
    let mut before = list.list(clock.now());
    store.close();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let (list, store, clock) = reopen(&path);
    let mut after = list.list(clock.now());
    assert_eq!(after.len(), 3);
    // In the file, two that end in the same second end together.
    for bans in [&mut before, &mut after] {
        bans.sort_by_key(|ban| ban.network);
    }
    for (before, after) in before.iter().zip(&after) {
        let fields = |ban: &Ban| (ban.network, ban.strikes, ban.cause, ban.reason.clone());
        assert_eq!(fields(before), fields(after));
        assert!(seconds_apart(before.lasts, after.lasts) <= 1, "{before:?} {after:?}");
        assert!(seconds_apart(clock.now().until(after.until), before.lasts) <= 2, "{before:?} {after:?}");
    }
    store.close();
}

#[test]
fn strikes_are_remembered_beyond_a_restart_and_a_ban_that_is_over() {
    let (_directory, path) = directory();
    let (list, store, clock) = reopen(&path);
    let short = Escalation { first: Duration::from_millis(1), ..Escalation::default() };
    list.strike(network(1), &short, clock.now());
    list.add(network(2), Duration::from_secs(1), None, clock.now()).unwrap();
    store.close();
    std::thread::sleep(Duration::from_millis(1600));
    let (list, store, clock) = reopen(&path);
    assert_eq!((list.list(clock.now()).len(), list.len(), list.active(), list.expirations()), (0, 1, 0, 0));
    assert_eq!(list.strike(network(1), &Escalation::default(), clock.now()).lasts, HOUR);
    store.close();
    let (list, _store, _) = reopen(&path);
    assert_eq!(list.len(), 1, "the one without strikes has been deleted");
}

#[test]
fn a_change_is_on_the_disk_within_a_second() {
    let (_directory, path) = directory();
    let (list, store, clock) = reopen(&path);
    list.strike(network(1), &Escalation::default(), clock.now());
    let patience = Instant::now() + Duration::from_secs(5);
    while list.pending().wait(Duration::ZERO) == Wake::Changed && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    // As a crash would leave it.
    let copy = path.with_extension("copy");
    fs::copy(&path, &copy).unwrap();
    let (copied, _store, _) = reopen(&copy);
    assert_eq!(copied.len(), 1);
    store.close();
}

#[test]
fn more_bans_than_the_list_may_hold_are_let_go_in_the_file_too() {
    let (_directory, path) = directory();
    filled(&path);
    let (list, clock) = (Arc::new(BanList::new(10)), Clock::start());
    let store = BanStore::open(&path, list.clone(), clock).unwrap();
    assert_eq!(list.len(), 10);
    store.close();
    assert_eq!(reopen(&path).0.len(), 10);
}

#[test]
fn a_file_has_one_gate() {
    let (directory, path) = directory();
    let (_list, store, _) = reopen(&path);
    let error = open(&path).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("is in use"), "{error}");
    assert!(set_aside(&directory).is_empty());
    store.close();
    reopen(&path);
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let (_directory, path) = directory();
    let error = open(&path.join("missing").join(FILE_NAME)).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert!(error.to_string().contains("`state_directory`"), "{error}");
}

#[test]
fn an_unusable_file_is_set_aside_and_the_gate_starts() {
    type Harm = fn(&Path, Vec<u8>);
    let harms: [(&str, Harm); 6] = [
        ("garbage", |path, _| fs::write(path, b"garbage, not a database".repeat(999)).unwrap()),
        ("a word", |path, _| fs::write(path, b"?").unwrap()),
        ("zeros", |path, _| fs::write(path, [0; 1 << 20]).unwrap()),
        ("a directory", |path, _| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("another version", |path, _| one_row(path, &[2; 30])),
        ("half", |path, bytes| fs::write(path, &bytes[..bytes.len() / 2]).unwrap()),
    ];
    for (case, harm) in harms {
        let (directory, path) = directory();
        harm(&path, filled(&path));
        let (list, store, clock) = reopen(&path);
        assert_eq!((list.len(), set_aside(&directory).len()), (0, 1), "{case}");
        list.strike(network(1), &Escalation::default(), clock.now());
        store.close();
        assert_eq!((reopen(&path).0.len(), set_aside(&directory).len()), (1, 1), "{case}");
    }
}

fn one_row(path: &Path, value: &[u8]) {
    fs::remove_file(path).unwrap();
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let table: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("bans");
    transaction.open_table(table).unwrap().insert([4, 1, 2, 3, 4, 32].as_slice(), value).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn an_empty_file_is_a_new_one() {
    let (directory, path) = directory();
    fs::write(&path, b"").unwrap();
    let (list, store, _) = reopen(&path);
    assert!(list.is_empty() && set_aside(&directory).is_empty());
    store.close();
}

#[test]
fn three_unusable_files_are_kept_and_nothing_else_is_touched() {
    let (directory, path) = directory();
    for name in ["bans.redb.unusable-1", "bans.redb.unusable-2", "bans.redb.unusable-3", "bans.redb.unusable-x", "a-1"]
    {
        fs::write(directory.path().join(name), b"").unwrap();
    }
    fs::write(&path, b"garbage").unwrap();
    reopen(&path);
    let mut names: Vec<_> = set_aside(&directory);
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names[0].starts_with("bans.redb.unusable-1") && names[0].len() > 22, "{names:?}");
    assert_eq!(names[1..], ["bans.redb.unusable-2", "bans.redb.unusable-3", "bans.redb.unusable-x"]);
    assert!(directory.path().join("a-1").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever happens to the bytes, the gate starts and the next ban is kept; what is still there is what was.
    #[test]
    fn no_damage_stops_the_gate(
        length in any::<prop::sample::Index>(),
        noise in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6),
    ) {
        let (_directory, path) = directory();
        let mut bytes = filled(&path);
        if noise.is_empty() {
            bytes.truncate(length.index(bytes.len()));
        }
        for (place, byte) in noise {
            *place.get_mut(&mut bytes) ^= byte;
        }
        fs::write(&path, bytes).unwrap();
        let (list, store, clock) = reopen(&path);
        prop_assert!(list.list(clock.now()).iter().all(|ban| ban.network.addr() < network(3000).addr()));
        list.strike(network(7777), &Escalation::default(), clock.now());
        store.close();
        prop_assert!(reopen(&path).0.find(network(7777).addr(), Moment::START).is_some());
    }
}

#[test]
fn what_cannot_be_written_now_is_written_later() {
    let (_directory, path) = directory();
    let (list, clock) = (Arc::new(BanList::new(100)), Clock::start());
    list.pending().track();
    let mut writer = Writer {
        path: path.clone(),
        file: None,
        list: list.clone(),
        clock,
        wall: WallClock::read(&clock),
        errors: Arc::default(),
        complained: None,
    };
    let (_, other, _) = reopen(&path);
    list.strike(network(1), &Escalation::default(), clock.now());
    assert!(!writer.write() && !writer.write());
    assert!(writer.complained.is_some());
    assert_eq!(writer.errors.load(Relaxed), 2);
    other.close();
    list.strike(network(2), &Escalation::default(), clock.now());
    assert!(writer.write() && writer.complained.is_none());
    assert!(list.pending().take().is_empty());
    drop(writer);
    assert_eq!(reopen(&path).0.len(), 2);
}

#[test]
fn a_step_of_the_wall_clock_writes_all_anew() {
    let (_directory, path) = directory();
    let (list, clock) = (Arc::new(BanList::new(100)), Clock::start());
    let (file, _) = BanFile::open(&path, UNIX_EPOCH).unwrap();
    list.pending().track();
    let mut writer = Writer {
        path: path.clone(),
        file: Some(file),
        list: list.clone(),
        clock,
        wall: WallClock::in_1970(),
        errors: Arc::default(),
        complained: None,
    };
    list.strike(network(1), &Escalation::default(), clock.now());
    assert!(writer.write());
    writer.follow_wall_clock();
    assert_eq!(list.pending().take(), Changes::All);
    writer.follow_wall_clock();
    assert!(list.pending().take().is_empty());
}

const CHILD: &str = "HEARTHGATE_TEST_BANS";

fn unix_micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()
}

/// Not a test: what the next one kills. Bans about a thousand networks a second and says when each was banned.
#[test]
#[ignore = "the other half of the next test"]
fn ban_until_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let (list, _store, clock) = reopen(Path::new(&path));
    let mut out = std::io::stdout().lock();
    for n in 0..60_000 {
        list.strike(network(n), &Escalation::default(), clock.now());
        writeln!(out, "\nbanned {n} {}", unix_micros()).unwrap();
        out.flush().unwrap();
        std::thread::sleep(Duration::from_micros(900));
    }
}

#[test]
fn a_kill_loses_at_most_the_last_second() {
    let random = std::collections::hash_map::RandomState::new();
    for round in 0..4_u64 {
        let (directory, path) = directory();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "bans::store::tests::ban_until_killed"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("banned 0 ")), "the other half has not begun");
        let reader = std::thread::spawn(move || lines.collect::<Vec<_>>());
        let chance = std::hash::BuildHasher::hash_one(&random, round) % 1000;
        std::thread::sleep(Duration::from_millis(1500 + chance));
        child.kill().unwrap();
        let killed = unix_micros();
        child.wait().unwrap();
        let banned: Vec<(u32, u128)> = reader.join().unwrap().iter().filter_map(|line| said(line)).collect();

        let (list, _store, clock) = reopen(&path);
        assert!(set_aside(&directory).is_empty(), "the file survives");
        let old: Vec<_> = banned.iter().filter(|(_, time)| time + 1_000_000 < killed).collect();
        let lost: Vec<_> =
            banned.iter().filter(|(n, _)| list.find(network(*n).addr(), clock.now()).is_none()).collect();
        let age = lost.first().map_or(0, |(_, time)| killed - time) / 1000;
        println!(
            "round {round}: {} banned, {} older than 1 s, {} lost, the oldest {age} ms",
            banned.len(),
            old.len(),
            lost.len()
        );
        assert!(old.len() > 100, "too few to say anything");
        assert!(old.iter().all(|(n, _)| list.find(network(*n).addr(), clock.now()).is_some()), "{age} ms");
    }
}

fn said(line: &str) -> Option<(u32, u128)> {
    let (n, time) = line.strip_prefix("banned ")?.split_once(' ')?;
    Some((n.parse().ok()?, time.parse().ok()?))
}

#[test]
fn a_failing_write_leaves_the_file_locked_by_nobody() {
    let (_directory, path) = directory();
    filled(&path);
    // A file that shrinks under the gate, as a broken disk might do it: an error or a panic inside, no harm outside.
    let (list, store, clock) = reopen(&path);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    list.strike(network(5000), &Escalation::default(), clock.now());
    store.close();
    let (_list, store, _) = reopen(&path);
    store.close();
}
