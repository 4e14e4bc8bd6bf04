//! Which room may know which, checked on the source itself. A new arrow is drawn here and in ARCHITECTURE.md, in the
//! commit that needs it, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Small leaves of plain data and pure rules: everyone may use them.
const LEAVES: &[&str] = &["config", "denial", "client", "clock", "request"];

/// What each room uses besides the leaves.
const ARROWS: &[(&str, &[&str])] = &[
    ("access_log", &["history"]),
    ("acme", &["dns", "durable", "http_client", "metrics", "tls"]),
    ("admin", &["history"]),
    ("app", &[]),
    ("bans", &[]),
    ("cli", &["admin", "demo", "events", "reload", "server"]),
    ("client", &[]),
    ("clock", &[]),
    ("config", &[]),
    ("demo", &["admin", "server"]),
    ("denial", &[]),
    ("dns", &["http_client", "tls"]),
    ("durable", &[]),
    ("dynamic_dns", &["dns", "http_client", "metrics"]),
    ("events", &["http_client", "metrics", "tls"]),
    ("exchange", &["websocket"]),
    ("guard", &["app", "bans", "metrics"]),
    ("history", &["metrics"]),
    ("http_client", &["tls"]),
    ("listener", &["access_log", "acme", "exchange", "guard", "metrics", "proxy", "routing", "snapshot", "websocket"]),
    ("metrics", &[]),
    ("proxy", &["access_log", "app", "exchange", "guard", "metrics", "routing", "snapshot", "upstream", "websocket"]),
    ("reload", &["acme", "admin", "dns", "events", "metrics", "snapshot", "tls", "upstream"]),
    ("request", &[]),
    ("routing", &[]),
    (
        "server",
        &[
            "access_log",
            "acme",
            "admin",
            "bans",
            "dynamic_dns",
            "events",
            "guard",
            "history",
            "listener",
            "metrics",
            "proxy",
            "reload",
            "snapshot",
            "state",
            "tls",
            "upstream",
        ],
    ),
    ("snapshot", &["acme", "dns", "guard", "routing", "tls", "upstream"]),
    ("state", &["durable", "guard"]),
    ("tls", &["durable", "routing"]),
    ("upstream", &["metrics", "websocket"]),
    ("websocket", &[]),
    ("main", &["cli"]),
];

/// Decisions live here: no sockets, no files, no clock. Time is an argument.
const PURE: &[&str] = &[
    "client.rs",
    "routing.rs",
    "request.rs",
    "denial.rs",
    "acme/memory.rs",
    "acme/problem.rs",
    "acme/report.rs",
    "acme/schedule.rs",
    "app/mod.rs",
    "app/credential.rs",
    "app/endpoint.rs",
    "app/generic.rs",
    "app/outcome.rs",
    "app/home_assistant/mod.rs",
    "app/home_assistant/answer.rs",
    "app/home_assistant/endpoint.rs",
    "app/home_assistant/form.rs",
    "app/home_assistant/login.rs",
    "app/home_assistant/path.rs",
    "app/home_assistant/place.rs",
    "app/home_assistant/token.rs",
    "app/home_assistant/websocket.rs",
    "admin/access.rs",
    "admin/changes.rs",
    "admin/findings.rs",
    "admin/page/mod.rs",
    "admin/page/chart.rs",
    "admin/page/door.rs",
    "admin/page/feel.rs",
    "admin/page/knocks.rs",
    "admin/page/words.rs",
    "cli/top/state.rs",
    "cli/top/view.rs",
    "dynamic_dns/poll.rs",
    "dynamic_dns/public.rs",
    "dynamic_dns/schedule.rs",
    "events/backlog.rs",
    "events/certificates.rs",
    "events/event.rs",
    "events/format.rs",
    "events/message.rs",
    "events/storm.rs",
    "events/upstreams.rs",
    "guard/devices.rs",
    "guard/explain.rs",
    "guard/flows.rs",
    "guard/hidden.rs",
    "guard/ledger.rs",
    "guard/rate_limit.rs",
    "guard/table.rs",
    "guard/visitor.rs",
    "history/mod.rs",
    "history/quantile.rs",
    "history/reasons.rs",
    "history/refusals.rs",
    "bans/escalation.rs",
    "bans/list.rs",
    "bans/table.rs",
    "proxy/inspect.rs",
    "listener/head.rs",
    "listener/body_clock.rs",
    "websocket/deflate.rs",
    "websocket/frames.rs",
    "websocket/greet/end.rs",
    "websocket/login.rs",
    "websocket/message.rs",
];

/// A source file without its tests.
struct Source {
    /// Relative to `src`.
    path: String,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Its lines without comments, numbered from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Fails with every line that `is_bad`.
    fn holds_no(&self, what: &str, is_bad: impl Fn(&str) -> bool) {
        let found: Vec<_> = self.code().filter(|(_, line)| is_bad(line)).collect();
        assert!(found.is_empty(), "{what} in src/{}: {found:#?}", self.path);
    }

    /// The rooms named as `crate::room` or inside `crate::{..}`.
    fn uses(&self) -> BTreeSet<String> {
        let code: String = self.code().map(|(_, line)| format!("{line}\n")).collect();
        let own_name = if self.path == "main.rs" { "hearthgate::" } else { "crate::" };
        let mut rooms = BTreeSet::new();
        for rest in code.split(own_name).skip(1) {
            match rest.strip_prefix('{') {
                Some(list) => rooms.extend(first_names(list)),
                None => rooms.extend(name(rest)),
            }
        }
        rooms.remove(self.room());
        rooms
    }
}

/// The first segments of a braced list's elements.
fn first_names(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut fresh) = (0, Vec::new(), true);
    for (at, sign) in list.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh && sign.is_ascii_lowercase() => {
                names.extend(name(&list[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn name(text: &str) -> Option<String> {
    let end = text.find(|sign: char| !sign.is_ascii_lowercase() && sign != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 50, "the source has not been found");
    let is_test = |path: &Path| path.ends_with("tests.rs") || path.ends_with("fixtures.rs");
    let sources = files.into_iter().filter(|path| !is_test(path)).map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
        Source { path: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), text }
    });
    sources.collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn every_room_uses_only_what_is_drawn() {
    let drawn: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for source in sources().iter().filter(|source| source.path != "lib.rs") {
        let allowed = drawn.get(source.room()).unwrap_or_else(|| panic!("draw the new room of src/{}", source.path));
        for used in source.uses() {
            let fine = LEAVES.contains(&used.as_str()) || allowed.contains(&used.as_str());
            assert!(fine, "src/{}: no arrow {} -> {used} is drawn", source.path, source.room());
        }
    }
}

#[test]
fn every_arrow_that_is_drawn_is_used() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        used.entry(source.room().to_owned()).or_default().extend(source.uses());
    }
    for (room, arrows) in ARROWS {
        for arrow in *arrows {
            assert!(used[*room].contains(*arrow), "nobody uses {room} -> {arrow} any more: rub it out");
        }
    }
}

#[test]
fn the_arrows_have_no_circle() {
    let mut left: BTreeMap<_, BTreeSet<_>> =
        ARROWS.iter().map(|(room, to)| (*room, to.iter().copied().collect())).collect();
    // A leaf may use leaves, and nothing else.
    assert!(LEAVES.iter().all(|leaf| left[leaf].is_empty()));
    while let Some(free) = left.iter().find(|(_, to)| to.is_empty()).map(|(room, _)| *room) {
        left.remove(free);
        left.values_mut().for_each(|to| {
            to.remove(free);
        });
    }
    assert!(left.is_empty(), "a circle among {left:?}");
}

#[test]
fn pingora_is_known_in_three_places_only() {
    for source in sources() {
        // The logger silences Pingora's targets by their names.
        let known = ["proxy", "listener", "server"].contains(&source.room()) || source.path == "cli/logging.rs";
        if !known {
            source.holds_no("Pingora", |line| line.contains("pingora"));
        }
    }
}

#[test]
fn decisions_touch_no_socket_no_file_and_no_clock() {
    const IMPURE: [&str; 9] = [
        "Instant::now",
        "SystemTime::now",
        "std::fs",
        "tokio::",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "std::env",
        "std::process",
    ];
    let sources = sources();
    for pure in PURE {
        let source = sources.iter().find(|source| source.path == *pure).unwrap_or_else(|| panic!("src/{pure} is gone"));
        source.holds_no("I/O", |line| IMPURE.iter().any(|impure| line.contains(impure)));
    }
}

#[test]
fn the_snapshot_has_one_writer() {
    for source in sources().iter().filter(|source| source.path != "reload.rs") {
        source.holds_no("a write to the snapshot", |line| line.contains("snapshot.store(") || line.contains(".rcu("));
    }
}

#[test]
fn metrics_are_named_in_one_room() {
    for source in sources().iter().filter(|source| source.room() != "metrics") {
        source.holds_no("a metric's name", |line| line.contains("\"hearthgate_"));
    }
}

#[test]
fn nothing_in_the_gate_panics_for_convenience() {
    const PANICS: [&str; 4] = [".unwrap()", "panic!(", "todo!(", "unimplemented!("];
    for source in sources() {
        source.holds_no("a panic", |line| PANICS.iter().any(|panics| line.contains(panics)));
    }
}

#[test]
fn there_is_no_unsafe_code() {
    assert!(sources().iter().any(|source| source.path == "lib.rs" && source.text.contains("#![forbid(unsafe_code)]")));
}
