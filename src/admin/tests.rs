//! Both doors over real sockets.

use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::admin::fixtures::{FakeGate, certificate};
use crate::admin::{AwaitedAttempt, BanList, BanTarget, Client, ClientError, NewBan, ReloadOutcome, Renew};
use crate::config::Secret;

struct Fixture {
    server: AdminServer,
    gate: Arc<FakeGate>,
    socket: PathBuf,
    directory: TempDir,
}

async fn start(token: Option<&str>) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("run/admin.sock");
    let gate = Arc::new(FakeGate::default());
    let registry = Registry::new();
    let counter = prometheus::IntCounter::new("hearthgate_tests_total", "Tests").unwrap();
    counter.inc();
    registry.register(Box::new(counter)).unwrap();
    let config = config(&socket, token);
    let server = AdminServer::start(&config, Some(listener().await), registry, gate.clone()).await.unwrap();
    Fixture { server, gate, socket, directory }
}

fn config(socket: &std::path::Path, token: Option<&str>) -> config::Admin {
    config::Admin { listen: None, token: token.map(|token| Secret::new(token.into())), socket: socket.to_owned() }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The gate may reset a connection of which it did not read all.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

impl Fixture {
    async fn ask(&self, request: &str) -> String {
        exchange(TcpStream::connect(self.server.address().unwrap()).await.unwrap(), request).await
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }
}

#[track_caller]
fn assert_status(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "wanted {status}, got {answer}");
}

#[tokio::test]
async fn metrics_come_as_prometheus_reads_them() {
    let fixture = start(None).await;
    let answer = fixture.get("/metrics").await;
    assert_status(&answer, 200);
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("\nhearthgate_tests_total 1\n"), "{answer}");
}

#[tokio::test]
async fn health_is_one_line() {
    let fixture = start(None).await;
    assert!(fixture.get("/healthz").await.ends_with("\r\n\r\nok\n"));
    assert!(fixture.get("/readyz").await.ends_with("\r\n\r\nready\n"));
    fixture.gate.is_unready.store(true, Ordering::Relaxed);
    let answer = fixture.get("/readyz").await;
    assert_status(&answer, 503);
    assert!(answer.ends_with("\r\n\r\ndraining now\n"), "{answer}");
    assert_status(&fixture.get("/healthz").await, 200);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let fixture = start(None).await;
    for path in [
        "/overview",
        "/bans/remove/",
        "/status.js/",
        "/reload",
        "/status",
        "/bans",
        "/explain?address=192.0.2.1",
        "/metrics/",
        "/healthz/x",
    ] {
        assert_status(&fixture.get(path).await, 404);
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        let answer = fixture.ask(&format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_status(&answer, 405);
        assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    }
    let answer = fixture.ask("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_status(&answer, 200);
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn metrics_want_the_token_and_health_does_not() {
    let fixture = start(Some("s3cret")).await;
    let ask = |field: &str| format!("GET /metrics HTTP/1.1\r\nHost: gate.example\r\n{field}\r\n");
    for field in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic s3cret\r\n"] {
        let answer = fixture.ask(&ask(field)).await;
        assert_status(&answer, 401);
        assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
        assert!(!answer.contains("hearthgate_tests_total"));
    }
    assert_status(&fixture.ask(&ask("Authorization: Bearer s3cret\r\n")).await, 200);
    assert_status(&fixture.ask("GET /healthz HTTP/1.1\r\nHost: gate.example\r\n\r\n").await, 200);
}

#[tokio::test]
async fn a_foreign_host_is_refused_and_its_neighbours_are_not() {
    let fixture = start(None).await;
    for host in ["evil.example", "localhost.evil.example", ""] {
        for path in ["/metrics", "/healthz", "/nothing"] {
            assert_status(&fixture.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await, 421);
        }
    }
    assert_status(&fixture.ask("GET /healthz HTTP/1.0\r\n\r\n").await.replace("HTTP/1.0", "HTTP/1.1"), 421);
    let address = fixture.server.address().unwrap().to_string();
    for host in ["localhost", "127.0.0.1", "[::1]:9180", &address] {
        assert_status(&fixture.ask(&format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")).await, 200);
    }
}

#[tokio::test]
async fn a_body_may_be_tiny_and_not_more() {
    let fixture = start(None).await;
    let with_length = |length: usize| {
        let body = "x".repeat(length);
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    assert_status(&fixture.ask(&with_length(1024)).await, 200);
    assert_status(&fixture.ask(&with_length(1025)).await, 413);
    let chunk = format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(0x401));
    let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_status(&fixture.ask(&format!("{head}{chunk}")).await, 413);
}

#[tokio::test]
async fn a_head_of_more_than_16_kib_is_refused() {
    let fixture = start(None).await;
    let with_field =
        |length: usize| format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(length));
    assert_status(&fixture.ask(&with_field(8 * 1024)).await, 200);
    assert_status(&fixture.ask(&with_field(20 * 1024)).await, 431);
}

#[tokio::test]
async fn a_connection_serves_one_request() {
    let fixture = start(None).await;
    let one = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = fixture.ask(&one.repeat(3)).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_let_go() {
    let fixture = start(None).await;
    let begun = tokio::time::Instant::now();
    let answer = fixture.ask("GET /healthz HTTP/1.1\r\nHost: ").await;
    assert!(!answer.contains("200"), "{answer}");
    assert!(begun.elapsed() <= HEAD_PATIENCE + REQUEST_PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_full_listener_lets_the_next_one_wait() {
    let fixture = start(None).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(TcpStream::connect(fixture.server.address().unwrap()).await.unwrap());
    }
    let mut waiting = TcpStream::connect(fixture.server.address().unwrap()).await.unwrap();
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    for _ in 0..10 {
        // The Unix socket has connections of its own, and by now the request would have been answered.
        Client::new(&fixture.socket).status().await.unwrap();
    }
    assert_eq!(waiting.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(held);
    assert_status(&exchange(waiting, "").await, 200);
}

#[tokio::test]
async fn the_client_reloads_and_asks_for_the_status() {
    let fixture = start(Some("s3cret")).await;
    let client = Client::new(&fixture.socket);
    let report = client.reload().await.unwrap();
    assert_eq!((report.outcome, report.generation), (ReloadOutcome::Accepted, 1));
    assert_eq!(client.status().await.unwrap(), fixture.gate.status());
}

#[tokio::test]
async fn reload_is_a_post() {
    let fixture = start(None).await;
    let stream = UnixStream::connect(&fixture.socket).await.unwrap();
    let answer = exchange(stream, "GET /reload HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_status(&answer, 405);
    assert!(answer.contains("allow: POST\r\n"), "{answer}");
    assert_eq!(fixture.gate.generation.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_client_bans_lists_explains_and_lifts() {
    let fixture = start(None).await;
    let client = Client::new(&fixture.socket);
    let day = Duration::from_secs(86_400);
    let ban = |text: &str, reason: Option<&str>| {
        NewBan::new(BanTarget::parse(text).unwrap(), day, reason.map(str::to_owned)).unwrap()
    };
    assert_eq!(client.bans().await.unwrap(), BanList::default());
    let longest = "\"".repeat(200);
    let report = client.add_ban(&ban("203.0.113.0/24", Some(&longest))).await.unwrap();
    assert_eq!((report.reason.as_deref(), report.until), (Some(longest.as_str()), UNIX_EPOCH + day));
    client.add_ban(&ban("2001:db8::9", None)).await.unwrap();
    let list = client.bans().await.unwrap();
    assert_eq!((list.total, list.bans[0].network.to_string()), (2, "2001:db8::/64".to_owned()));

    let (address, other) = (IpAddr::from([203, 0, 113, 9]), IpAddr::from([192, 0, 2, 1]));
    assert_eq!(client.explain(address).await.unwrap(), fixture.gate.explain(address));
    assert_eq!(client.explain(address).await.unwrap().ban, Some(report));
    assert_eq!(client.explain(other).await.unwrap().ban, None);

    let remove = async |text: &str| client.remove_bans(BanTarget::parse(text).unwrap()).await.unwrap().removed;
    assert_eq!(remove("203.0.0.0/16").await, []);
    assert_eq!(remove("203.0.113.9").await, ["203.0.113.0/24".parse().unwrap()]);
    assert_eq!(remove("2001:db8::/64").await, ["2001:db8::/64".parse().unwrap()]);
    assert_eq!(client.bans().await.unwrap(), BanList::default());
}

#[tokio::test]
async fn a_ban_that_the_gate_declines_is_told_in_its_words() {
    let fixture = start(None).await;
    let ban = NewBan::new(BanTarget::parse("127.0.0.1").unwrap(), Duration::from_secs(1), None).unwrap();
    let error = Client::new(&fixture.socket).add_ban(&ban).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.0/8 is in guard.never_ban really");
}

#[tokio::test]
async fn slips_are_refused_by_the_gate_as_well() {
    let fixture = start(None).await;
    for (request, body, status, text) in [
        ("POST /bans", "", 400, "EOF"),
        ("POST /bans", r#"{"network":"203.0.113.9/24","seconds":1}"#, 400, "write `203.0.113.0/24`"),
        ("POST /bans", r#"{"network":"0.0.0.0/0","seconds":1}"#, 400, "is everyone"),
        ("POST /bans", &"x".repeat(1025), 413, "body too large"),
        ("PUT /bans", "", 405, "allow: GET, HEAD, POST, DELETE"),
        ("DELETE /bans", "", 400, "`?network=` is missing"),
        ("DELETE /bans?net=192.0.2.1", "", 400, "`?network=` is missing"),
        ("DELETE /bans?network=192.0.2.1/24", "", 400, "write `192.0.2.0/24`"),
        ("POST /explain?address=192.0.2.1", "", 405, "allow: GET, HEAD"),
        ("GET /explain", "", 400, "`?address=` is missing"),
        ("GET /explain?address=192.0.2.0/24", "", 400, "is a network: name one address"),
        ("GET /explain?address=ha.example", "", 400, "is not an address"),
    ] {
        let stream = UnixStream::connect(&fixture.socket).await.unwrap();
        let length = body.len();
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
        let answer = exchange(stream, &request).await;
        assert_status(&answer, status);
        assert!(answer.contains(text), "{request}: {answer}");
    }
    assert!(fixture.gate.bans.lock().is_empty());
}

#[tokio::test]
async fn nobody_listening_is_said_in_plain_words() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let error = Client::new(&socket).status().await.unwrap_err();
    assert!(matches!(error, ClientError::NobodyListens(_)));
    assert_eq!(error.to_string(), format!("no gate is running: nobody listens at {}", socket.display()));

    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let error = Client::new(&socket).status().await.unwrap_err();
    assert!(matches!(error, ClientError::NobodyListens(_)), "a stale socket is the same: {error}");
}

#[tokio::test]
async fn an_answer_from_something_else_is_not_mistaken_for_ours() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let other = tokio::spawn(async move {
        for answer in
            ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy", ""]
        {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let client = Client::new(&socket);
    assert!(matches!(client.status().await, Err(ClientError::NotUnderstood(_))));
    assert_eq!(client.status().await.unwrap_err().to_string(), "the gate answered 503 Service Unavailable: busy");
    assert!(matches!(client.status().await, Err(ClientError::BrokenOff(_))));
    other.await.unwrap();
}

#[tokio::test]
async fn the_socket_is_private_and_goes_away() {
    let fixture = start(None).await;
    let file = std::fs::metadata(&fixture.socket).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(fixture.directory.path().join("run")).unwrap().permissions().mode() & 0o777, 0o700);
    fixture.server.stop().await;
    assert!(!fixture.socket.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
    let fixture = start(None).await;
    let second = AdminServer::start(&config(&fixture.socket, None), None, Registry::new(), fixture.gate.clone()).await;
    let error = second.err().expect("two gates on one socket");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("another gate"), "{error}");
    assert!(Client::new(&fixture.socket).status().await.is_ok(), "the first one still answers");

    let stale = fixture.directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(std::fs::metadata(&stale).unwrap().file_type().is_socket());
    let third = AdminServer::start(&config(&stale, None), None, Registry::new(), fixture.gate.clone()).await.unwrap();
    assert!(Client::new(&stale).status().await.is_ok());
    third.stop().await;
}

#[tokio::test]
async fn a_file_of_another_kind_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("notes.txt");
    std::fs::write(&file, "mine").unwrap();
    let gate = Arc::new(FakeGate::default());
    let error = AdminServer::start(&config(&file, None), None, Registry::new(), gate).await.err().unwrap();
    assert!(error.to_string().contains("notes.txt"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[tokio::test]
async fn a_socket_that_another_gate_has_taken_over_is_not_removed() {
    let fixture = start(None).await;
    std::fs::remove_file(&fixture.socket).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&fixture.socket).unwrap();
    fixture.server.stop().await;
    assert!(fixture.socket.exists());
}

#[tokio::test]
async fn the_client_lists_certificates_and_has_them_renewed() {
    let fixture = start(None).await;
    let client = Client::new(&fixture.socket);
    assert!(client.certificates().await.unwrap().certificates.is_empty());
    let home = certificate("ha.example.org", Some("the authority\nsays no"));
    fixture.gate.certificates.lock().push(home.clone());
    assert_eq!(client.certificates().await.unwrap().certificates, [home]);
    let awaited = [AwaitedAttempt { name: "ha.example.org".into(), attempts: 1 }];
    let renewal = client.renew(&Renew { name: Some("www.ha.example.org".into()) }).await.unwrap();
    assert_eq!(renewal.awaited, awaited);
    assert_eq!(client.renew(&Renew { name: None }).await.unwrap().awaited[0].attempts, 2);
    let refused = client.renew(&Renew { name: Some("other.example.org".into()) }).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Declined(why) if why == "no such certificate"), "{refused}");
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_renewal_that_is_not_understood_is_refused() {
    let fixture = start(None).await;
    for body in ["", "{", "[1]", "{\"nama\": \"x\"}", "{\"name\": 1}"] {
        let request =
            format!("POST /certificates HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let answer = exchange(UnixStream::connect(&fixture.socket).await.unwrap(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body}: {answer}");
    }
    // Nobody gets there over TCP.
    assert!(fixture.get("/certificates").await.starts_with("HTTP/1.1 404 "));
    fixture.server.stop().await;
}
