use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::*;

/// One script for all tests, which does what its third argument says. Were there several, one could be started while
/// another is still open for writing in a child that has just been forked, which the kernel refuses.
const SCRIPT: &str = r#"#!/bin/sh
case "$3" in
note:*) printf '%s|%s|%s|%s|%s' "$#" "$1" "$2" "$3" "$(cat)" > "${3#note:}" ;;
fail) echo "to stdout"; echo "first"; printf 'bad \033[31mcolour\n\n' >&2; exit 3 ;;
quiet) exit 1 ;;
long) head -c 100000 /dev/zero | tr '\0' x >&2; exit 1 ;;
hang:*) sleep 600 & echo $! > "${3#hang:}"; echo "waiting for the API" >&2; wait ;;
background) sleep 600 & exit 0 ;;
signal) kill -9 $$ ;;
esac
"#;

fn script(limit: Duration) -> Script {
    static DIRECTORY: OnceLock<TempDir> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("hook");
        fs::write(&path, SCRIPT).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        directory
    });
    Script { command: directory.path().join("hook"), timeout: limit }
}

const MINUTE: Duration = Duration::from_secs(60);
const RECORD: &str = "_acme-challenge.ha.example.org";

async fn failure(value: &str) -> String {
    script(MINUTE).set_txt(RECORD, value).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_script_gets_what_lego_would_give_it() {
    let directory = TempDir::new().unwrap();
    let note = directory.path().join("a note; with blanks");
    let value = format!("note:{}", note.display());
    script(MINUTE).set_txt(RECORD, &value).await.unwrap();
    assert_eq!(fs::read_to_string(&note).unwrap(), format!("3|present|{RECORD}.|{value}|"));
    script(MINUTE).clear_txt(RECORD, &value).await.unwrap();
    assert_eq!(fs::read_to_string(&note).unwrap(), format!("3|cleanup|{RECORD}.|{value}|"));
}

#[tokio::test]
async fn a_failure_shows_the_exit_code_and_the_last_words() {
    let error = failure("fail").await;
    assert!(error.ends_with(r#"failed (exit status: 3); its last words: "bad \u{1b}[31mcolour""#), "{error}");
    assert!(failure("quiet").await.ends_with("failed (exit status: 1)"));
    assert!(failure("signal").await.contains("signal: 9"));
    assert!(failure("long").await.len() < 500);
}

#[tokio::test]
async fn a_script_that_cannot_be_run_is_named() {
    for command in ["/nonexistent/hook", "/etc/passwd"] {
        let script = Script { command: PathBuf::from(command), timeout: MINUTE };
        let error = script.set_txt(RECORD, "v").await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{command} cannot be run: ")), "{error}");
    }
}

#[tokio::test]
async fn at_the_time_limit_a_script_ends_with_all_that_it_has_started() {
    let directory = TempDir::new().unwrap();
    let note = directory.path().join("child");
    let value = format!("hang:{}", note.display());
    let error = script(Duration::from_secs(1)).set_txt(RECORD, &value).await.unwrap_err().to_string();
    assert!(error.ends_with(r#"after 1 s and has been stopped; its last words: "waiting for the API""#), "{error}");
    let child = fs::read_to_string(&note).unwrap();
    // A process that is gone, or dead and not yet collected by whoever inherits it.
    let is_gone = || {
        let status = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        status.is_empty() || status.contains(") Z ")
    };
    let deadline = Instant::now() + MINUTE;
    while !is_gone() {
        assert!(Instant::now() < deadline, "the script's child lives on");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_script_leaves_in_the_background_is_not_waited_for() {
    let begun = Instant::now();
    script(MINUTE).set_txt(RECORD, "background").await.unwrap();
    assert!(begun.elapsed() < MINUTE / 2);
}
