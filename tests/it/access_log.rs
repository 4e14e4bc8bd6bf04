//! The access log as its reader finds it: one line of JSON for each request, and no secret in it.

use std::path::Path;

use crate::harness::http2::Http2Client;
use crate::harness::{FakeHomeAssistant, Setup, eventually};

fn lines(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_leaves_one_line_that_tells_who_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let upstream = FakeHomeAssistant::start().await;
    let gate =
        Setup::new(upstream.address).key("app: home_assistant").key("surface: open").access_log(&file).start().await;
    let mut client = gate.dial().from("127.0.0.9").client().await;
    assert_eq!(client.get("/lovelace?access_token=SECRET&edit=SECRET").await.status, 200);
    assert_eq!(client.post("/api/webhook/SECRETID", b"SECRET").await.status, 200);
    let head = "GET /x HTTP/1.1\r\nHost: ha.test\r\nAuthorization: Bearer SECRET\r\nCookie: a=SECRET\r\n\r\n";
    assert_eq!(client.exchange(head).await.status, 200);
    let mut http2 = Http2Client::dial(gate.dial().from("127.0.0.9")).await;
    assert_eq!(http2.get("/api/webhook/SECRETID?access_token=SECRET").await.unwrap().status, 200);
    eventually("four lines", || lines(&file).len() == 4).await;

    // What the upstream got is whole.
    assert_eq!(upstream.targets()[..2], ["/lovelace?access_token=SECRET&edit=SECRET", "/api/webhook/SECRETID"]);
    let lines = lines(&file);
    for line in &lines {
        assert!(line.starts_with("{\"remote_ip\":\"127.0.0.9\","), "{line}");
        assert!(!line.contains("SECRET"), "{line}");
    }
    let parsed: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (line, (method, path)) in parsed.iter().zip([("GET", "/lovelace"), ("POST", "/api/webhook/"), ("GET", "/x")]) {
        assert_eq!((&line["method"], &line["status"]), (&method.into(), &200.into()), "{line}");
        assert!(line["uri"].as_str().unwrap().starts_with(path), "{line}");
    }
    assert_eq!((&parsed[3]["proto"], &parsed[3]["host"]), (&"HTTP/2.0".into(), &"ha.test".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leaves_its_reason_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).access_log(&file).start().await;
    let request = "GET /api/webhook/SECRETID?access_token=SECRET HTTP/1.1\r\nHost: evil.test\r\n\r\n";
    assert_eq!(gate.client().await.exchange(request).await.status, 421);
    eventually("a line", || lines(&file).len() == 1).await;
    let line = lines(&file).remove(0);
    assert!(line.starts_with("{\"remote_ip\":\"127.0.0.1\",") && !line.contains("SECRET"), "{line}");
    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&parsed["status"], &parsed["reason"]), (&421.into(), &"misdirected".into()));
    assert_eq!(upstream.connections(), 0);
}
