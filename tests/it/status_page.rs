//! The status page over real sockets: who may read it, who may lift a ban on it, and what it says of real traffic.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hearthgate::admin::{self, BanTarget, NewBan};
use tokio::net::TcpStream;

use crate::harness::gate::HOST;
use crate::harness::{Answer, Client, Gate, Guest, Household, RawUpstream, Setup, guarded};

const NETWORK: &str = "203.0.113.0/24";
const FORM: &str = "application/x-www-form-urlencoded";

async fn start(admin: &str) -> (Gate, RawUpstream) {
    let upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).admin(admin).start().await;
    (gate, upstream)
}

/// Asks the admin listener; `fields` end with a line each.
async fn ask(gate: &Gate, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let address = gate.running.listeners.admin.unwrap();
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    let length = body.len();
    client.exchange(format!("{method} {path} HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{body}")).await
}

async fn page(gate: &Gate) -> String {
    let answer = ask(gate, "GET", "/", "Host: localhost\r\n", "").await;
    assert_eq!(answer.status, 200);
    answer.text().to_owned()
}

async fn ban(gate: &Gate) {
    let target = BanTarget::parse(NETWORK).unwrap();
    let ban = NewBan::new(target, Duration::from_secs(3600), Some("<b>scans</b>".into())).unwrap();
    commands(gate).add_ban(&ban).await.unwrap();
}

fn commands(gate: &Gate) -> admin::Client {
    admin::Client::new(gate.directory.path().join("admin.sock"))
}

async fn is_banned(gate: &Gate) -> bool {
    commands(gate).bans().await.unwrap().total == 1
}

/// The word in the page's forms.
fn token(page: &str) -> &str {
    page.split_once("name=\"token\" value=\"").unwrap().1.split('"').next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_answers_the_three_questions_under_a_strict_policy() {
    let (gate, _upstream) = start("listen: \"127.0.0.1:0\"").await;
    ban(&gate).await;
    let answer = ask(&gate, "GET", "/", "Host: localhost\r\n", "").await;
    let policy = answer.field("content-security-policy").unwrap();
    for part in
        ["default-src 'none'", "style-src 'self'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'"]
    {
        assert!(policy.contains(part) && !policy.contains("unsafe"), "{policy}");
    }
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    let text = answer.text();
    for part in
        ["Is the door open?", "Who knocks?", "How does it feel?", HOST, NETWORK, "by the operator: &lt;b&gt;scans"]
    {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for (path, kind) in [("/status.css", "text/css; charset=utf-8"), ("/status.js", "text/javascript; charset=utf-8")] {
        let answer = ask(&gate, "GET", path, "Host: localhost\r\n", "").await;
        assert_eq!((answer.status, answer.field("content-type")), (200, Some(kind)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_turned_away_is_on_the_page_with_its_reason() {
    let (gate, _upstream) = start("listen: \"127.0.0.1:0\"").await;
    let mut stranger = gate.dial().from("127.0.0.77").client().await;
    assert_eq!(stranger.exchange("TRACE / HTTP/1.1\r\nHost: ha.test\r\n\r\n").await.status, 405);
    let mut long = gate.dial().from("127.0.0.78").client().await;
    assert_eq!(long.get(&format!("/{}", "x".repeat(30_000))).await.status, 414);
    let text = page(&gate).await;
    assert!(text.contains("<code>127.0.0.77</code>") && text.contains("method"), "{text}");
    assert!(text.contains("<code>127.0.0.78</code>") && text.contains("limits.uri_length"), "{text}");
    assert!(!text.contains("xxxxxxxx"), "nobody's path is on the page");
    let overview = commands(&gate).overview().await.unwrap();
    assert_eq!(overview.refusals.len(), 2);
    assert_eq!(overview.refusals[0].client.to_string(), "127.0.0.78", "the newest first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_the_gate_does_not_lead_to_the_page_and_loopback_does() {
    let (gate, mut upstream) = start("listen: \"127.0.0.1:0\"").await;
    let port = gate.running.listeners.admin.unwrap().port();
    for host in [HOST.to_owned(), format!("{HOST}:{port}"), "rebound.example".into(), format!("evil.example:{port}")] {
        for path in ["/", "/status.js", "/bans/remove"] {
            let answer = ask(&gate, "GET", path, &format!("Host: {host}\r\n"), "").await;
            assert_eq!(answer.status, 421, "{host} {path}");
        }
    }
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), "[::1]".into()] {
        assert_eq!(ask(&gate, "GET", "/", &format!("Host: {host}\r\n"), "").await.status, 200, "{host}");
    }
    // And the gate's own door leads to what is behind it, whatever the request calls itself.
    let mut visitor = gate.client().await;
    visitor.send("GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
    let mut asked = upstream.accept().await;
    asked.head().await;
    asked.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbehind").await;
    assert_eq!(visitor.answer().await.text(), "behind");
    for host in [format!("127.0.0.1:{port}"), "localhost".into()] {
        let answer = gate.client().await.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, 421, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_pages_own_form_lifts_a_ban() {
    let (gate, _upstream) = start("listen: \"127.0.0.1:0\"").await;
    ban(&gate).await;
    let text = page(&gate).await;
    let (token, ours) = (token(&text), "Host: localhost\r\nOrigin: http://localhost\r\n");
    let (form, network) = (format!("Content-Type: {FORM}\r\n"), "network=203.0.113.0%2F24");
    let right = format!("{network}&token={token}");
    let table = [
        ("Host: localhost\r\nOrigin: http://evil.example\r\n", &*form, &*right, 403),
        ("Host: localhost\r\nOrigin: http://localhost:1\r\n", &form, &right, 403),
        ("Host: localhost\r\nOrigin: null\r\n", &form, &right, 403),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", &form, &right, 403),
        ("Host: localhost\r\nOrigin: http://localhost\r\nSec-Fetch-Site: same-site\r\n", &form, &right, 403),
        ("Host: localhost\r\n", &form, &right, 403),
        ("Host: ha.test\r\nOrigin: http://ha.test\r\n", &form, &right, 421),
        (ours, &form, network, 403),
        (ours, &form, &format!("{network}&token={}", "0".repeat(32)), 403),
        (ours, "Content-Type: text/plain\r\n", &right, 415),
        (ours, &form, &"x".repeat(2000), 413),
        (ours, &form, &format!("network=everybody&token={token}"), 400),
    ];
    for (fields, kind, body, status) in table {
        let answer = ask(&gate, "POST", "/bans/remove", &format!("{fields}{kind}"), body).await;
        assert_eq!(answer.status, status, "{fields}{body}: {}", answer.text());
        assert!(is_banned(&gate).await, "{fields}{body}");
    }
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let address = gate.running.listeners.admin.unwrap();
        let mut client = Client::new(TcpStream::connect(address).await.unwrap());
        client.send(format!("{method} /bans/remove?{right} HTTP/1.1\r\n{ours}\r\n")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 405 "), "{method}");
        assert!(is_banned(&gate).await, "{method}");
    }
    let answer = ask(&gate, "POST", "/bans/remove", &format!("{ours}{form}"), &right).await;
    assert_eq!((answer.status, answer.field("location")), (303, Some("/#bans")));
    assert!(!is_banned(&gate).await);
    assert!(page(&gate).await.contains("Nobody is banned."));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_the_page_is_behind_a_password_and_has_any_name() {
    let (gate, _upstream) = start("listen: \"127.0.0.1:0\", token: s3cret").await;
    ban(&gate).await;
    let basic = |pair: &str| format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(pair));
    for path in ["/", "/status.css", "/status.js"] {
        for wrong in [String::new(), basic("me:wrong"), "Authorization: Bearer wrong\r\n".into()] {
            for host in ["localhost", "gate.lan", "rebound.example"] {
                let answer = ask(&gate, "GET", path, &format!("Host: {host}\r\n{wrong}"), "").await;
                assert_eq!(answer.status, 401, "{host} {path} {wrong}");
                assert!(answer.field("www-authenticate").unwrap().starts_with("Basic realm="));
            }
        }
        for right in [basic("me:s3cret"), "Authorization: Bearer s3cret\r\n".into()] {
            assert_eq!(ask(&gate, "GET", path, &format!("Host: gate.lan\r\n{right}"), "").await.status, 200, "{path}");
        }
    }
    let own = format!("Host: gate.lan\r\n{}", basic("me:s3cret"));
    let text = ask(&gate, "GET", "/", &own, "").await.text().to_owned();
    let body = format!("network=203.0.113.0%2F24&token={}", token(&text));
    let form = format!("Origin: http://gate.lan\r\nContent-Type: {FORM}\r\n");
    let without = ask(&gate, "POST", "/bans/remove", &format!("Host: gate.lan\r\n{form}"), &body).await;
    assert_eq!((without.status, is_banned(&gate).await), (401, true));
    assert_eq!(ask(&gate, "POST", "/bans/remove", &format!("{own}{form}"), &body).await.status, 303);
    assert!(!is_banned(&gate).await);
    // Scrapes and health go on as they were.
    assert_eq!(ask(&gate, "GET", "/metrics", "Host: x\r\nAuthorization: Bearer s3cret\r\n", "").await.status, 200);
    assert_eq!(ask(&gate, "GET", "/metrics", &format!("Host: x\r\n{}", basic("me:s3cret")), "").await.status, 401);
    assert_eq!(ask(&gate, "GET", "/healthz", "Host: x\r\n", "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_was_refused_is_told_with_its_mistakes() {
    let (gate, _upstream) = start("listen: \"127.0.0.1:0\"").await;
    assert!(page(&gate).await.contains("as at the start"));
    std::fs::write(&gate.file, "hostz: {}\n").unwrap();
    gate.running.reload().await;
    let text = page(&gate).await;
    assert!(text.contains("was refused; generation 1 serves on") && text.contains("hostz"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn top_prints_one_picture_where_there_is_no_terminal() {
    let (gate, _upstream) = start("listen: off").await;
    ban(&gate).await;
    for arguments in [&["top", "--once"][..], &["top"]] {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_hearthgate"));
        command.args(arguments).arg("--config").arg(&gate.file).stdin(std::process::Stdio::null());
        let done = command.output().await.unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        for part in ["Is the door open?", HOST, "Who knocks? 1 ban", NETWORK, "<b>scans</b>"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_guard_names_the_key_that_sets_it() {
    let household = Household::start().await;
    let limits = "rate_limits: {page: {rate: 1/h, burst: 1}}";
    let gate = guarded(&household, limits).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    assert_eq!((guest.get("/").await.status, guest.get("/").await.status), (200, 429));
    let refusals = commands(&gate).overview().await.unwrap().refusals;
    let [refused] = &refusals[..] else { panic!("{refusals:?}") };
    assert_eq!((refused.client.to_string().as_str(), refused.refusal.host.as_deref()), ("203.0.113.1", Some(HOST)));
    assert_eq!(refused.refusal.key.as_deref(), Some("guard.rate_limits.page"));
}
