use std::net::IpAddr;
use std::path::Path;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::request::Protocol;

fn record(target: &str) -> RequestRecord {
    RequestRecord {
        started: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        remote: IpAddr::from([203, 0, 113, 7]),
        host: Some("home.example".into()),
        method: "GET".into(),
        target: target.into(),
        protocol: Protocol::Http2,
        status: 200,
        request_body_bytes: 5,
        response_body_bytes: 1234,
        duration: Duration::from_micros(12_345),
        upstream_duration: Some(Duration::from_millis(11)),
        gate_duration: None,
        class: None,
        user_agent: Some("Home Assistant/2026.1".into()),
        reason: None,
    }
}

fn render(record: &RequestRecord, hide: bool) -> String {
    let mut batch = Vec::new();
    line::append(record, hide, &mut batch);
    String::from_utf8(batch).unwrap()
}

fn counter() -> IntCounter {
    IntCounter::new("dropped", "dropped").unwrap()
}

fn config(file: &Path) -> config::AccessLog {
    config::AccessLog { file: Some(file.to_owned()), ..Default::default() }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_line_begins_with_the_client_and_shows_no_secret() {
    let line = render(&record("/api/webhook/abc?access_token=def"), true);
    let expected = concat!(
        r#"{"remote_ip":"203.0.113.7","ts":"2023-11-14T22:13:20.123Z","host":"home.example","method":"GET","#,
        r#""uri":"/api/webhook/REDACTED?access_token=REDACTED","proto":"HTTP/2.0","status":200,"#,
        r#""request_size":5,"size":1234,"duration":0.012345,"upstream_duration":0.011,"#,
        r#""user_agent":"Home Assistant/2026.1","reason":null}"#,
        "\n"
    );
    assert_eq!(line, expected);
}

#[test]
fn redaction_can_be_turned_off() {
    let line = render(&record("/x?y=z"), false);
    assert!(line.contains(r#""uri":"/x?y=z""#), "{line}");
}

#[test]
fn a_mapped_address_is_written_as_the_ipv4_address_it_is() {
    let record = RequestRecord { remote: "::ffff:192.0.2.1".parse().unwrap(), ..record("/") };
    assert!(render(&record, true).starts_with(r#"{"remote_ip":"192.0.2.1","#));
}

#[test]
fn times_that_cannot_be_written_are_moved_not_panicked_about() {
    let early = RequestRecord { started: UNIX_EPOCH - Duration::from_secs(1), ..record("/") };
    assert!(render(&early, true).contains("1970-01-01T00:00:00.000Z"));
    let late = RequestRecord { started: UNIX_EPOCH + Duration::from_secs(300_000_000_000), ..record("/") };
    assert!(render(&late, true).contains("9999-12-31T23:59:59.000Z"));
}

#[test]
fn long_fields_are_cut_and_the_queue_keeps_little() {
    let mut long = record(&format!("/{}", "é".repeat(20_000)));
    long.user_agent = Some("u".repeat(60_000));
    long.method = "M".repeat(60_000);
    line::bound(&mut long);
    assert!(long.target.capacity() < 5000 && long.method.capacity() < 100);
    assert!(long.user_agent.as_ref().unwrap().capacity() < 600);

    let line: Value = serde_json::from_str(&render(&long, true)).unwrap();
    let uri = line["uri"].as_str().unwrap();
    assert!(uri.len() <= 1024 + '…'.len_utf8() && uri.ends_with("é…"));
    assert_eq!(line["user_agent"].as_str().unwrap(), format!("{}…", "u".repeat(256)));
}

#[test]
fn what_a_terminal_acts_upon_is_escaped() {
    let mut hostile = record("/\u{1b}[2J\u{9b}2J\r\n\u{2028}\u{202e}\u{7f}\"\\");
    hostile.user_agent = Some("a\n{\"remote_ip\":\"198.51.100.1\"}".into());
    let line = render(&hostile, true);
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    assert!(!line.trim_end().chars().any(|c| c.is_control() || c == '\u{202e}' || c == '\u{2028}'), "{line}");
    let read: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read["uri"], hostile.target.as_str());
    assert_eq!(read["remote_ip"], "203.0.113.7");
}

#[test]
fn closing_writes_all_that_was_handed_in() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let dropped = counter();
    let (log, writer) = AccessLog::start(&config(&file), dropped.clone()).unwrap();
    for index in 0..100 {
        log.log(record(&format!("/{index}")));
    }
    writer.close();
    let written = lines(&file);
    assert_eq!(written.len(), 100);
    assert_eq!(written[99]["uri"], "/99");
    assert_eq!(dropped.get(), 0);

    log.log(record("/late"));
    assert_eq!(dropped.get(), 1, "a line after the end is counted, not lost silently");
}

#[test]
fn the_file_is_not_for_everyone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let (_log, writer) = AccessLog::start(&config(&file), counter()).unwrap();
    writer.close();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & !0o640, 0, "{mode:o}");
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_that_names_it() {
    let Err(error) = AccessLog::start(&config(Path::new("/nonexistent/access.log")), counter()) else {
        panic!("opened a file in no directory")
    };
    assert!(error.to_string().contains("/nonexistent/access.log"), "{error}");
}

#[test]
fn off_means_that_nothing_is_counted_as_lost() {
    let off = config::AccessLog { enabled: false, ..Default::default() };
    let dropped = counter();
    let (log, writer) = AccessLog::start(&off, dropped.clone()).unwrap();
    log.log(record("/"));
    writer.close();
    assert_eq!(dropped.get(), 0);
}

#[test]
fn a_full_queue_drops_and_counts_instead_of_waiting() {
    // No thread takes from this queue.
    let (queue, records) = sync_channel(2);
    let dropped = counter();
    let log =
        AccessLog { queue: Some(queue), closed: Arc::default(), dropped: dropped.clone(), refusals: Arc::default() };
    for _ in 0..5 {
        log.log(record("/"));
    }
    assert_eq!(dropped.get(), 3);
    assert_eq!(records.try_iter().count(), 2);
}

proptest! {
    #[test]
    fn any_record_is_one_line_of_json_without_the_secret(
        key in "[a-z_]{1,12}", value in "[A-Za-z0-9]{12,40}", tail in ".{0,300}", agent in ".{0,300}",
    ) {
        let record = RequestRecord { user_agent: Some(agent), ..record(&format!("/x?{key}={value}{tail}")) };
        let line = render(&record, true);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let read: Value = serde_json::from_str(&line).unwrap();
        prop_assert!(!read["uri"].as_str().unwrap().contains(&value));
        prop_assert!(line.len() < 6 * 1500);
    }
}
