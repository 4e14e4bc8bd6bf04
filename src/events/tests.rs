//! Over real sockets: destinations that answer, refuse, hang and break off.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::{EventDestination, EventFormat, Secret};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers each request with the next of `answers`, the last one again and again; hands on what it heard.
async fn receiver(answers: Vec<&'static str>) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut answers = answers.into_iter().peekable();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !is_whole(&request) {
                if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let _ = heard.send(String::from_utf8(request).unwrap());
            let answer = answers.peek().copied().unwrap_or(OK);
            if answers.len() > 1 {
                answers.next();
            }
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (address, requests)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn destination(address: SocketAddr, format: EventFormat) -> EventDestination {
    EventDestination {
        name: "house".into(),
        url: Secret::new(format!("http://{address}/api/webhook/hunter2")),
        format,
        token: Some(Secret::new("hunter2".into())),
        ca_file: None,
        tell: vec![Topic::Bans, Topic::Reloads],
        batch: Duration::from_millis(100),
        min_interval: Duration::from_secs(1),
    }
}

fn target(destination: EventDestination) -> Target {
    Target::load(&[destination]).unwrap().remove(0)
}

fn events(targets: Vec<Target>) -> (Events, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let events = Events::new(Clock::start(), metrics.clone());
    events.set_targets(targets);
    (events, metrics)
}

fn metric(metrics: &Metrics, sample: &str) -> f64 {
    let text = prometheus::TextEncoder::new().encode_to_string(&metrics.registry().gather()).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ').map(str::to_owned));
    value.map_or(0.0, |value| value.parse().unwrap())
}

fn ban(last: u8) -> Event {
    let network = format!("203.0.113.{last}/32").parse().unwrap();
    Event::Ban { network, cause: "login", until: SystemTime::now(), seconds: 900, strikes: 1, reason: None }
}

async fn heard(requests: &mut mpsc::UnboundedReceiver<String>) -> String {
    tokio::time::timeout(PATIENCE, requests.recv()).await.expect("a message").unwrap()
}

fn body(request: &str) -> serde_json::Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn what_happens_within_a_moment_is_one_message() {
    let (address, mut requests) = receiver(vec![OK]).await;
    let (events, metrics) = events(vec![target(destination(address, EventFormat::HomeAssistant))]);
    events.tell(ban(1));
    events.tell(ban(2));
    events.tell(Event::UpstreamUp { host: "not asked for".into() });
    let request = heard(&mut requests).await;
    assert!(request.starts_with("POST /api/webhook/hunter2 HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains("content-type: application/json\r\n"), "{request}");
    let body = body(&request);
    assert_eq!((&body["title"], &body["kind"]), (&"Hearthgate: 2 bans".into(), &"ban".into()));
    assert_eq!((body["events"].as_array().unwrap().len(), body["urgency"].as_str()), (2, Some("normal")));
    assert!(body["message"].as_str().unwrap().contains("- 203.0.113.1 is banned for 15m"), "{body}");
    events.close().await;
    assert_eq!(metric(&metrics, "hearthgate_events_total{kind=\"ban\"}"), 2.0);
    assert_eq!(metric(&metrics, "hearthgate_event_messages_total{destination=\"house\",outcome=\"sent\"}"), 1.0);
    assert_eq!(metric(&metrics, "hearthgate_events_dropped_total"), 0.0);
}

#[tokio::test]
async fn each_format_is_what_its_reader_expects() {
    let (address, mut requests) = receiver(vec![OK]).await;
    assert_eq!(test(&target(destination(address, EventFormat::Ntfy))).await, Ok(200));
    let request = heard(&mut requests).await;
    let lower = request.to_lowercase();
    for field in ["title: hearthgate: 1 test", "priority: 3", "tags: white_check_mark", "authorization: bearer hunter2"]
    {
        assert!(lower.contains(&format!("{field}\r\n")), "{field} in {request}");
    }
    assert!(request.ends_with("\r\n\r\nThis is a test: messages of the gate arrive here"), "{request}");
    assert_eq!(test(&target(destination(address, EventFormat::Json))).await, Ok(200));
    let body = body(&heard(&mut requests).await);
    assert_eq!((&body["events"][0]["kind"], &body["omitted"]), (&"test".into(), &serde_json::json!({})));
}

#[tokio::test]
async fn a_flood_is_one_message_and_waits_for_nobody() {
    let (address, mut requests) = receiver(vec![OK]).await;
    let (events, metrics) = events(vec![target(destination(address, EventFormat::Json))]);
    // More than the queue holds, before anybody can have taken one of them: this test has one thread.
    for number in 0..QUEUE + 500 {
        events.tell(ban((number % 250) as u8));
    }
    let body = body(&heard(&mut requests).await);
    assert_eq!(body["events"].as_array().unwrap().len(), 50);
    assert_eq!(body["omitted"]["ban"], QUEUE - 50);
    assert_eq!(metric(&metrics, "hearthgate_events_dropped_total"), 500.0);
}

#[tokio::test]
async fn refusals_are_final_and_troubles_are_not() {
    let answer =
        |status: u16| format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").leak() as &str;
    for (status, is_final, hint) in [
        (302, true, "redirects are not followed"),
        (401, true, "check `token`"),
        (404, true, "check `url`"),
        (413, true, "answered 413"),
        (408, false, "answered 408"),
        (429, false, "answered 429"),
        (500, false, "answered 500"),
        (503, false, "answered 503"),
    ] {
        let (address, _requests) = receiver(vec![answer(status)]).await;
        let error = test(&target(destination(address, EventFormat::Json))).await.unwrap_err();
        assert_eq!(error.is_final, is_final, "{status}");
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test]
async fn no_error_shows_where_a_message_was_to_go() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (breaking, _heard) = receiver(vec![""]).await;
    let (talking, _also_heard) = receiver(vec!["SMTP ready\r\n\r\n"]).await;
    for address in [free, breaking, talking] {
        let target = target(destination(address, EventFormat::HomeAssistant));
        let error = test(&target).await.unwrap_err();
        assert!(!error.is_final && !error.to_string().contains("hunter2"), "{error}");
        assert!(!format!("{target:?} {error:?}").contains("hunter2"));
    }
    let missing = EventDestination {
        ca_file: Some(PathBuf::from("/nowhere/ca.pem")),
        ..destination(free, EventFormat::HomeAssistant)
    };
    let errors = Target::load(&[missing]).unwrap_err();
    assert!(errors[0].starts_with("events.house.ca_file: ") && !errors[0].contains("hunter2"), "{errors:?}");
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_away_is_tried_again_and_one_that_is_gone_is_given_up() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (events, metrics) = events(vec![target(destination(free, EventFormat::Json))]);
    events.tell(ban(1));
    let given_up = || metric(&metrics, "hearthgate_event_messages_total{destination=\"house\",outcome=\"given_up\"}");
    let begun = tokio::time::Instant::now();
    while given_up() < 1.0 {
        assert!(begun.elapsed() < Duration::from_secs(3600), "given up within the hour");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(metric(&metrics, "hearthgate_event_messages_total{destination=\"house\",outcome=\"retried\"}"), 5.0);
    assert_eq!(metric(&metrics, "hearthgate_events_dropped_total"), 1.0);
}

#[tokio::test]
async fn one_that_hangs_keeps_nobody_waiting_not_even_at_the_end() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, mut requests) = receiver(vec![OK]).await;
    let slow = destination(hanging.local_addr().unwrap(), EventFormat::Json);
    let quick = EventDestination { name: "phone".into(), ..destination(address, EventFormat::Json) };
    let (events, _metrics) = events(vec![target(slow), target(quick)]);
    events.tell(ban(1));
    heard(&mut requests).await;
    let begun = std::time::Instant::now();
    // What has not gone yet goes now.
    events.tell(ban(2));
    events.close().await;
    assert_eq!(body(&heard(&mut requests).await)["events"][0]["network"], "203.0.113.2/32");
    assert!(begun.elapsed() < 10 * LAST_WORDS);
    events.tell(ban(3));
}

#[tokio::test]
async fn a_reload_keeps_what_waits_where_nothing_has_changed() {
    let (address, mut requests) = receiver(vec![OK]).await;
    let patient = EventDestination { batch: Duration::from_secs(1), ..destination(address, EventFormat::Json) };
    let (events, _metrics) = events(vec![target(patient.clone())]);
    events.tell(ban(1));
    let other = EventDestination { name: "phone".into(), tell: vec![Topic::Devices], ..patient.clone() };
    events.set_targets(vec![target(other), target(patient)]);
    events.tell(ban(2));
    let first = body(&heard(&mut requests).await);
    assert_eq!(first["events"].as_array().unwrap().len(), 2, "{first}");
    // One that goes says what it still has to say.
    events.tell(ban(3));
    events.set_targets(vec![]);
    events.tell(ban(4));
    assert_eq!(body(&heard(&mut requests).await)["events"][0]["network"], "203.0.113.3/32");
    events.close().await;
    assert!(requests.try_recv().is_err());
}
