use std::sync::Arc;

use super::*;
use crate::admin::AdminServer;
use crate::admin::fixtures::{FakeGate, certificate};

fn parse(line: &str) -> Result<Command, clap::Error> {
    Arguments::try_parse_from(line.split_whitespace()).map(|arguments| arguments.command)
}

fn run_line(line: &str) -> (String, anyhow::Result<Exit>) {
    let mut out = Vec::new();
    let result = execute(parse(line).unwrap(), &mut out);
    (String::from_utf8(out).unwrap(), result)
}

fn broken_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "nonsense: [\n").unwrap();
    file
}

#[test]
fn the_arguments_are_consistent() {
    use clap::CommandFactory;
    Arguments::command().debug_assert();
}

#[test]
fn check_has_two_spellings() {
    for arguments in ["", " --config x.yaml", " -c x.yaml --json", " --json"] {
        let long = parse(&format!("hearthgate check{arguments}")).unwrap();
        let short = parse(&format!("hearthgate -t{arguments}")).unwrap();
        assert_eq!(long, short, "{arguments}");
    }
}

#[test]
fn the_configuration_has_a_usual_place() {
    for command in
        ["run", "check", "reload", "status", "certificates list", "bans list", "bans remove ::1", "explain ::1"]
    {
        let default = parse(&format!("hearthgate {command}")).unwrap();
        let named = parse(&format!("hearthgate {command} --config /etc/hearthgate/hearthgate.yaml")).unwrap();
        assert_eq!(default, named);
    }
}

#[test]
fn wrong_usage_exits_with_2_and_help_with_0() {
    for line in [
        "hearthgate",
        "hearthgate fly",
        "hearthgate run --json",
        "hearthgate status --socket",
        "hearthgate demo --listen nowhere",
        "hearthgate check run",
        "hearthgate bans",
        "hearthgate bans add 203.0.113.9",
        "hearthgate bans add 203.0.113.9/24 --for 7d",
        "hearthgate bans add 0.0.0.0/0 --for 7d",
        "hearthgate bans add 203.0.113.9 --for ever",
        "hearthgate bans remove everyone",
        "hearthgate certificates",
        "hearthgate certificates show",
        "hearthgate certificates renew",
        "hearthgate certificates renew ha.example.org --all",
        "hearthgate explain",
        "hearthgate explain 203.0.113.0/24",
        "hearthgate bans explain ha.example.org",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    for line in ["hearthgate --help", "hearthgate --version", "hearthgate run --help"] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 0, "{line}");
    }
}

#[test]
fn version_is_one_line() {
    let (out, result) = run_line("hearthgate version");
    assert_eq!(out, format!("hearthgate {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(result.unwrap(), Exit::Good);
}

#[test]
fn a_bad_configuration_exits_with_78_and_its_findings() {
    let file = broken_file();
    for command in ["check", "run"] {
        let (out, result) = run_line(&format!("hearthgate {command} --config {}", file.path().display()));
        let mut complaints = Vec::new();
        assert_eq!(exit_of(result, &mut complaints), Exit::BadConfig, "{command}");
        let complaints = String::from_utf8(complaints).unwrap();
        assert!(complaints.contains(&file.path().display().to_string()), "{complaints}");
        assert_eq!(out, "");
    }
}

#[test]
fn check_tells_the_same_as_json() {
    let file = broken_file();
    let (out, result) = run_line(&format!("hearthgate check --json --config {}", file.path().display()));
    assert_eq!(result.unwrap(), Exit::BadConfig);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["accepted"], false);
    assert_eq!(report["file"], file.path().display().to_string());
    assert!(!report["findings"].as_array().unwrap().is_empty());
    assert!(!report["findings"][0]["message"].as_str().unwrap().is_empty());
}

#[test]
fn no_gate_is_said_in_one_line() {
    for command in [
        "status",
        "reload",
        "bans list",
        "bans add 203.0.113.9 --for 7d",
        "bans remove 203.0.113.9",
        "bans explain 203.0.113.9",
        "certificates list",
        "certificates show a.b",
        "certificates renew --all",
        "explain 203.0.113.9 --json",
    ] {
        let (_, result) = run_line(&format!("hearthgate {command} --socket /nonexistent/admin.sock"));
        let mut complaints = Vec::new();
        assert_eq!(exit_of(result, &mut complaints), Exit::Failed);
        let expected = "hearthgate: no gate is running: nobody listens at /nonexistent/admin.sock\n";
        assert_eq!(String::from_utf8(complaints).unwrap(), expected);
    }
}

#[test]
fn a_broken_file_does_not_keep_anybody_from_asking() {
    let file = broken_file();
    let argument = |socket: Option<&str>| SocketArgument {
        file: ConfigArgument { config: file.path().to_owned() },
        socket: socket.map(PathBuf::from),
    };
    assert_eq!(argument(None).find(), (DEFAULT_SOCKET.into(), true));
    assert_eq!(argument(Some("/x")).find(), ("/x".into(), false));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let mut complaints = Vec::new();
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    assert_eq!(exit_of(Err(gone().into()), &mut complaints), Exit::Good);
    assert_eq!(exit_of(Err(serde_json::Error::io(gone()).into()), &mut complaints), Exit::Good);
    assert_eq!(complaints, b"");
    assert_eq!(exit_of(Err(anyhow::anyhow!("x").context("y")), &mut complaints), Exit::Failed);
    assert_eq!(complaints, b"hearthgate: y: x\n");
}

/// A gate that answers on a socket until it is dropped.
struct Answering {
    runtime: tokio::runtime::Runtime,
    gate: Arc<FakeGate>,
    server: AdminServer,
    directory: tempfile::TempDir,
}

impl Answering {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        let config = crate::config::Admin { listen: None, token: None, socket };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let gate = Arc::new(FakeGate::default());
        let server = AdminServer::start(&config, None, prometheus::Registry::new(), gate.clone());
        let server = runtime.block_on(server).unwrap();
        Self { runtime, gate, server, directory }
    }

    /// What a command prints, be it an answer or a complaint.
    fn run(&self, arguments: &[&str]) -> (String, Exit) {
        let socket = self.directory.path().join("admin.sock");
        let arguments = ["hearthgate"].iter().chain(arguments).chain(&["--socket"]).copied().map(OsString::from);
        let command = Arguments::try_parse_from(arguments.chain([socket.into()])).unwrap().command;
        let mut said = Vec::new();
        let result = execute(command, &mut said);
        let exit = exit_of(result, &mut said);
        (String::from_utf8(said).unwrap(), exit)
    }

    fn stop(self) {
        self.runtime.block_on(self.server.stop());
    }
}

#[test]
fn a_ban_comes_and_goes() {
    let gate = Answering::start();
    let failed = |text: &str| (format!("hearthgate: {text}\n"), Exit::Failed);
    let good = |text: &str| (text.to_owned(), Exit::Good);
    assert_eq!(gate.run(&["bans", "list"]), good("nobody is banned\n"));
    assert_eq!(
        gate.run(&["bans", "add", "203.0.113.0/24", "--for", "7d", "--reason", "night after night"]),
        good("203.0.113.0/24 is banned until 1970-01-08T00:00:00Z (in 7d)\n")
    );
    assert_eq!(
        gate.run(&["bans", "add", "2001:db8::9", "--for", "15m"]),
        good("2001:db8::/64 is banned until 1970-01-01T00:15:00Z (in 15m)\n")
    );
    let (list, exit) = gate.run(&["bans", "list"]);
    assert_eq!((list.lines().count(), exit), (3, Exit::Good), "{list}");
    assert!(list.contains("night after night"), "{list}");
    let (json, _) = gate.run(&["bans", "list", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["total"], &json["bans"][1]["network"]), (&2.into(), &"203.0.113.0/24".into()));

    assert_eq!(gate.run(&["bans", "remove", "192.0.2.1"]), failed("192.0.2.1 is not banned"));
    assert_eq!(
        gate.run(&["bans", "remove", "203.0.113.0/25"]),
        failed("203.0.113.0/25 is not banned as such; `hearthgate bans list` shows what is")
    );
    assert_eq!(gate.run(&["bans", "remove", "203.0.113.9"]), good("203.0.113.0/24 is no longer banned\n"));
    assert_eq!(gate.run(&["bans", "remove", "2001:db8::/64"]), good("2001:db8::/64 is no longer banned\n"));
    assert!(gate.gate.bans.lock().is_empty());
    gate.stop();
}

#[test]
fn a_ban_that_may_not_be_is_said_in_one_line() {
    let gate = Answering::start();
    let add = |more: &[&str]| gate.run(&[&["bans", "add"], more].concat());
    for (arguments, complaint) in [
        (["127.0.0.1", "--for", "1h"].as_slice(), "127.0.0.0/8 is in guard.never_ban"),
        (&["203.0.113.9", "--for", "0"], "a ban lasts from 1 second to 366 days"),
        (&["203.0.113.9", "--for", "1h", "--reason", "a\nb"], "a reason is one line"),
    ] {
        let (said, exit) = add(arguments);
        assert_eq!((exit, said.lines().count()), (Exit::Failed, 1), "{said}");
        assert!(said.contains(complaint), "{said}");
    }
    gate.stop();
}

#[test]
fn explain_has_two_places() {
    let gate = Answering::start();
    gate.run(&["bans", "add", "203.0.113.9", "--for", "1h"]);
    for json in [&[][..], &["--json"]] {
        let (long, _) = gate.run(&[&["bans", "explain", "203.0.113.9"], json].concat());
        let (short, exit) = gate.run(&[&["explain", "::ffff:203.0.113.9"], json].concat());
        assert_eq!(exit, Exit::Good);
        // The age of the last refusal may grow between the two.
        assert_eq!(long.lines().next(), short.lines().next());
        assert_eq!(long.lines().count(), short.lines().count());
    }
    let (text, _) = gate.run(&["explain", "203.0.113.9"]);
    assert!(text.starts_with("203.0.113.9 is banned until 1970-01-01T01:00:00Z (in 1h).\n"), "{text}");
    let (text, _) = gate.run(&["explain", "192.0.2.1"]);
    assert!(text.starts_with("192.0.2.1 is not banned.\n"), "{text}");
    let (json, _) = gate.run(&["explain", "2001:db8::9", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["counted_as"], &json["ban"]), (&"2001:db8::/64".into(), &serde_json::Value::Null));
    gate.stop();
}

#[test]
fn certificates_are_listed_shown_and_renewed() {
    let gate = Answering::start();
    let failed = |text: &str| (format!("hearthgate: {text}\n"), Exit::Failed);
    let good = |text: &str| (text.to_owned(), Exit::Good);
    let (home, other) = (certificate("ha.example.org", None), certificate("other.example.org", Some("no\nmore")));
    gate.gate.certificates.lock().extend([home, other]);

    let (list, exit) = gate.run(&["certificates", "list"]);
    assert_eq!((list.lines().count(), exit), (3, Exit::Good), "{list}");
    assert!(list.contains("failed once: order: no more"), "{list}");
    let (json, _) = gate.run(&["certificates", "list", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["certificates"][0]["acme"]["next_attempt"], "1970-01-01T00:00:00Z");

    let (text, exit) = gate.run(&["certificates", "show", "WWW.ha.example.org"]);
    assert!(text.starts_with("ha.example.org\n  names ") && exit == Exit::Good, "{text}");
    let (json, _) = gate.run(&["certificates", "show", "ha.example.org", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["source"], &json["served"]), (&"acme".into(), &serde_json::Value::Null));
    let unknown = "no host or certificate is called x; `hearthgate certificates list` shows all";
    assert_eq!(gate.run(&["certificates", "show", "x"]), failed(unknown));

    let had = "ha.example.org: had, valid until 1970-01-01T00:00:00Z\n";
    let again = "next attempt at 1970-01-01T00:00:00Z";
    let why = format!("other.example.org: order: no more; {again}");
    assert_eq!(gate.run(&["certificates", "renew", "ha.example.org"]), good(had));
    assert_eq!(gate.run(&["certificates", "renew", "other.example.org"]), failed(&why));
    assert_eq!(gate.run(&["certificates", "renew", "--all"]), (format!("{had}hearthgate: {why}\n"), Exit::Failed));
    let asked = gate.run(&["certificates", "renew", "other.example.org", "--no-wait"]);
    assert_eq!(asked, good("other.example.org: asked for\n"));
    assert_eq!(gate.run(&["certificates", "renew", "x"]), failed("no such certificate"));
    let (json, exit) = gate.run(&["certificates", "renew", "ha.example.org", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["name"], &json[0]["attempts"], exit), (&"ha.example.org".into(), &3.into(), Exit::Good));
    gate.stop();
}
