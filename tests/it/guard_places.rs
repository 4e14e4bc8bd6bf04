//! The promise of the lane, for places: strangers who take all connections or requests of an address keep nobody out who
//! has proven a session from there; and nobody leaves for anybody where nobody lives.

use hearthgate::admin::{Client as Operator, Explanation};
use hearthgate::denial::Denial;
use http::Request;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::guest::{PROXY, Session};
use crate::harness::household::LONG_LIVED;
use crate::harness::http2::Http2Client;
use crate::harness::raw_http2::PREFACE;
use crate::harness::websocket::{UPGRADE, WebSocket};
use crate::harness::{Client, Gate, Guest, Household, eventually, guarded, within};

const HOME: &str = "203.0.113.1";
const ELSEWHERE: &str = "203.0.113.2";
/// Nobody leaves by itself.
const PATIENT: &str = "timeouts: {tls_handshake: 1m, request_head: 1m, body_grace: 1m, body_stall: 1m}";

async fn gate(household: &Household, limits: &str) -> Gate {
    guarded(household, "").section(&format!("limits: {{{limits}}}")).section(PATIENT).start().await
}

/// What an address holds.
async fn explain(gate: &Gate, ip: &str) -> Explanation {
    Operator::new(gate.directory.path().join("admin.sock")).explain(ip.parse().unwrap()).await.unwrap()
}

/// Logs in at home, however few places there are, and leaves.
async fn log_in(gate: &Gate) -> Session {
    let guest = Guest::at(gate, HOME);
    // One connection and one request: from here on whoever is still leaving makes room.
    drop(guest.show(LONG_LIVED).await);
    gave_all_places_back(gate, HOME).await;
    let session = guest.log_in().await;
    gave_all_places_back(gate, HOME).await;
    session
}

async fn gave_all_places_back(gate: &Gate, ip: &str) {
    within("all places to be given back", async {
        loop {
            let Explanation { requests_open, connections_open, .. } = explain(gate, ip).await;
            if (requests_open, connections_open, gate.running.status().connections_open) == (0, 0, 0) {
                return;
            }
        }
    })
    .await;
}

/// How far a stranger's connection gets, and stays.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Silent,
    HalfHello,
    Tls,
    Head,
    Http2,
    WebSocket,
}

const STAGES: [Stage; 6] = [Stage::Silent, Stage::HalfHello, Stage::Tls, Stage::Head, Stage::Http2, Stage::WebSocket];

async fn linger(guest: &Guest<'_>, stage: Stage) -> Client {
    let mut client = match stage {
        Stage::Silent | Stage::HalfHello => Client::new(guest.dial().tcp().await),
        Stage::Tls | Stage::Head | Stage::WebSocket => guest.connect().await,
        Stage::Http2 => guest.dial().alpn("h2").client().await,
    };
    match stage {
        Stage::Silent | Stage::Tls => {}
        Stage::HalfHello => client.send(b"\x16\x03\x01\x02\x00\x01").await,
        Stage::Head => client.send("GET / HTTP/1.1\r\nHo").await,
        Stage::Http2 => client.send([PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()).await,
        Stage::WebSocket => {
            client.send(UPGRADE).await;
            client.head().await;
        }
    }
    client
}

/// A device that has logged in, with a connection of each kind.
struct Device<'g> {
    at: Guest<'g>,
    session: Session,
    http1: Client,
    http2: Http2Client,
    websocket: WebSocket,
}

impl<'g> Device<'g> {
    async fn new(gate: &'g Gate) -> Self {
        let (at, session) = (Guest::at(gate, HOME), log_in(gate).await);
        let mut device = Self {
            http1: at.connect().await,
            http2: Http2Client::dial(at.dial()).await,
            websocket: at.show(&session.access).await.0,
            at,
            session,
        };
        device.is_alive().await;
        device
    }

    fn browser(&self) -> Guest<'g> {
        self.at.clone().with(&format!("Cookie: {}", self.session.cookie))
    }

    fn with_bearer(&self, path: &str) -> Request<()> {
        let request = Request::get(format!("https://ha.test{path}"));
        request.header("authorization", format!("Bearer {}", self.session.access)).body(()).unwrap()
    }

    /// What it has open is answered.
    async fn is_alive(&mut self) {
        let page = self.browser().request("GET", "/", b"");
        assert_eq!(self.http1.exchange(page).await.status, 200);
        let states = self.with_bearer("/api/states");
        assert_eq!(self.http2.send(states, b"").await.unwrap().status, 200);
        self.websocket.echoes(Message::text("{\"id\":1}")).await;
    }

    /// What it opens anew is.
    async fn returns(&self) {
        assert_eq!(self.browser().get("/").await.status, 200);
        let states = self.with_bearer("/api/states");
        assert_eq!(Http2Client::dial(self.at.dial()).await.send(states, b"").await.unwrap().status, 200);
        let (mut socket, verdict) = self.at.show(&self.session.access).await;
        assert_eq!(verdict.as_deref(), Some("auth_ok"));
        socket.echoes(Message::text("{\"id\":1}")).await;
        assert_eq!(self.at.refresh(&self.session.refresh).await.status, 200);
    }
}

/// Strangers take more than there is: when the first has left, all is taken.
async fn crowd(gate: &Gate, stage: Stage, count: usize) -> Vec<Client> {
    let before = gate.denials(Denial::MadeRoom);
    let guest = Guest::at(gate, HOME);
    let mut crowd = Vec::new();
    for _ in 0..count {
        crowd.push(linger(&guest, stage).await);
    }
    eventually("somebody to make room", || gate.denials(Denial::MadeRoom) > before).await;
    crowd
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_take_all_connections_of_a_home_leave_for_the_device_that_lives_there() {
    let household = Household::start().await;
    // As many as the device opens, lest its own connections that are still closing keep it out.
    let gate = gate(&household, "connections_per_client: 7").await;
    let mut device = Device::new(&gate).await;
    for stage in STAGES {
        let crowd = crowd(&gate, stage, 7).await;
        device.returns().await;
        device.is_alive().await;
        drop(crowd);
        has_connections(&gate, HOME, 3).await;
    }
    assert_eq!(gate.denials(Denial::ConnectionsPerClient), 0);
    drop(device);
    gave_all_places_back(&gate, HOME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_they_do_by_default() {
    let household = Household::start().await;
    let gate = gate(&household, "").await;
    let mut device = Device::new(&gate).await;
    let crowds = [crowd(&gate, Stage::Silent, 260).await, crowd(&gate, Stage::Tls, 200).await];
    assert_eq!(explain(&gate, HOME).await.connections_open, 256);
    device.returns().await;
    device.is_alive().await;
    drop((device, crowds));
    gave_all_places_back(&gate, HOME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_turned_out_hears_nothing_and_is_counted() {
    let household = Household::start().await;
    let gate = gate(&household, "connections_per_client: 1").await;
    let guest = Guest::at(&gate, HOME);
    let newcomer = guest.clone().with(&format!("Cookie: {}", log_in(&gate).await.cookie));
    let before = gate.denials(Denial::MadeRoom);
    for (count, stage) in (1..).zip(STAGES) {
        let mut stranger = linger(&guest, stage).await;
        // Behind the PROXY header nobody can see a seat being taken.
        has_connections(&gate, HOME, 1).await;
        assert_eq!(newcomer.get("/").await.status, 200);
        stranger.rest().await;
        let what = format!("{stage:?} to be counted");
        eventually(&what, || gate.denials(Denial::MadeRoom) == before + count).await;
        gave_all_places_back(&gate, HOME).await;
    }
    assert_eq!(gate.metric("hearthgate_websockets_closed_total{cause=\"made_room\"}"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_leaves_where_nobody_lives() {
    let household = Household::start().await;
    let gate = gate(&household, "connections_per_client: 2").await;
    log_in(&gate).await;
    let guest = Guest::at(&gate, ELSEWHERE);
    let mut held = [guest.connect().await, guest.connect().await];
    assert_eq!(guest.get("/").await.status, 503);
    // Not even for a device that is known from elsewhere: it has not said so when it comes.
    assert_eq!(guest.clone().bearer(LONG_LIVED).get("/api/states").await.status, 503);
    eventually("the refusals", || gate.denials(Denial::ConnectionsPerClient) == 2).await;
    for client in &mut held {
        assert_eq!(client.get("/").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_leaves_who_is_known() {
    let household = Household::start().await;
    let gate = gate(&household, "connections_per_client: 3").await;
    let mut device = Device::new(&gate).await;
    assert_eq!(Guest::at(&gate, HOME).get("/").await.status, 503);
    assert_eq!(device.browser().get("/").await.status, 503, "as without strangers");
    eventually("the refusals", || gate.denials(Denial::ConnectionsPerClient) == 2).await;
    device.is_alive().await;
}

/// How a stranger's request comes to stay.
#[derive(Debug, Clone, Copy)]
enum Stay {
    /// Its body does not come to an end.
    Unsent,
    /// The upstream does not answer.
    Unanswered,
}

impl Stay {
    fn request(self) -> (&'static str, &'static str) {
        match self {
            Self::Unsent => ("POST", "/auth/login_flow"),
            Self::Unanswered => ("GET", "/auth/providers"),
        }
    }

    async fn http1(self, guest: &Guest<'_>) -> Client {
        let (method, path) = self.request();
        // So much of a body that the front door hands the request on.
        let mut request = guest.request(method, path, &[b' '; 10_000]);
        request.truncate(request.len() - 5_000);
        let mut client = guest.connect().await;
        client.send(if method == "GET" { guest.request(method, path, b"") } else { request }).await;
        client
    }

    async fn http2(self, client: &mut Http2Client) -> (h2::client::ResponseFuture, h2::SendStream<bytes::Bytes>) {
        let (method, path) = self.request();
        let request = Request::builder().method(method).uri(format!("https://ha.test{path}")).body(()).unwrap();
        client.begin(request, method == "GET").await
    }
}

async fn has_connections(gate: &Gate, ip: &str, count: u64) {
    within("the connections", async { while explain(gate, ip).await.connections_open != count {} }).await;
}

async fn has_requests(gate: &Gate, ip: &str, count: u64) {
    within("the requests", async { while explain(gate, ip).await.requests_open != count {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_take_all_requests_of_a_home_leave_for_the_device_that_lives_there() {
    for stay in [Stay::Unsent, Stay::Unanswered] {
        let household = Household::start().await;
        let gate = gate(&household, "requests_per_client: 6").await;
        let mut device = Device::new(&gate).await;
        let guest = Guest::at(&gate, HOME);
        if matches!(stay, Stay::Unanswered) {
            household.hold();
        }
        let mut alone = Vec::new();
        for _ in 0..2 {
            alone.push(stay.http1(&guest).await);
        }
        has_requests(&gate, HOME, 2).await;
        let mut together = Http2Client::dial(guest.dial()).await;
        let mut streams = Vec::new();
        for _ in 0..4 {
            streams.push(stay.http2(&mut together).await);
        }
        has_requests(&gate, HOME, 6).await;
        for _ in 0..3 {
            assert_eq!(device.browser().get("/").await.status, 200, "{stay:?}");
            // Takes the place that comes free.
            has_requests(&gate, HOME, 5).await;
            streams.push(stay.http2(&mut together).await);
            has_requests(&gate, HOME, 6).await;
        }
        if matches!(stay, Stay::Unsent) {
            device.returns().await;
            device.is_alive().await;
        }
        assert!(gate.denials(Denial::MadeRoom) >= 3);
        assert_eq!(gate.denials(Denial::RequestsPerClient), 0);
        household.release();
        drop((device, alone, streams, together));
        gave_all_places_back(&gate, HOME).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_they_do_with_five_hundred_requests() {
    let household = Household::start().await;
    let gate = gate(&household, "").await;
    let mut device = Device::new(&gate).await;
    let guest = Guest::at(&gate, HOME);
    let (mut crowd, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let mut client = Http2Client::dial(guest.dial()).await;
        for _ in 0..100 {
            streams.push(Stay::Unsent.http2(&mut client).await);
        }
        crowd.push(client);
    }
    has_requests(&gate, HOME, 512).await;
    eventually("some to make room", || gate.denials(Denial::MadeRoom) == 88).await;
    device.returns().await;
    device.is_alive().await;
    assert_eq!(gate.denials(Denial::RequestsPerClient), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_room_is_told_503_or_reset() {
    let household = Household::start().await;
    let gate = gate(&household, "requests_per_client: 1").await;
    let guest = Guest::at(&gate, HOME);
    let browser = guest.clone().with(&format!("Cookie: {}", log_in(&gate).await.cookie));
    let before = gate.denials(Denial::MadeRoom);
    household.hold();
    for (count, stay) in [(1, Stay::Unsent), (3, Stay::Unanswered)] {
        let mut alone = stay.http1(&guest).await;
        has_requests(&gate, HOME, 1).await;
        assert_eq!(browser.get("/").await.status, 200);
        let answer = alone.answer().await;
        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")));
        eventually("one that made room", || gate.denials(Denial::MadeRoom) == before + count).await;
        gave_all_places_back(&gate, HOME).await;
        let mut client = Http2Client::dial(guest.dial()).await;
        let (answer, stream) = stay.http2(&mut client).await;
        has_requests(&gate, HOME, 1).await;
        assert_eq!(browser.get("/").await.status, 200);
        assert!(within("the reset", answer).await.unwrap_err().is_reset());
        eventually("another one", || gate.denials(Denial::MadeRoom) == before + count + 1).await;
        drop((client, stream));
        gave_all_places_back(&gate, HOME).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_lives_a_request_leaves_for_a_known_device_only() {
    let household = Household::start().await;
    let gate = gate(&household, "requests_per_client: 1").await;
    let session = log_in(&gate).await;
    let before = gate.denials(Denial::MadeRoom);
    let guest = Guest::at(&gate, ELSEWHERE);
    let mut held = Stay::Unsent.http1(&guest).await;
    has_requests(&gate, ELSEWHERE, 1).await;
    assert_eq!(guest.get("/").await.status, 503);
    assert_eq!(Http2Client::dial(guest.dial()).await.get("/").await.unwrap().status, 503);
    assert_eq!(guest.clone().bearer("guessed").get("/api/states").await.status, 503);
    assert_eq!(guest.clone().with("Cookie: __Host-hearthgate=forged").get("/").await.status, 503);
    eventually("the refusals", || gate.denials(Denial::RequestsPerClient) == 4).await;
    let device = guest.clone().with(&format!("cookie: a=b;{}", session.cookie));
    assert_eq!(device.get("/").await.status, 200);
    assert_eq!(held.answer().await.status, 503);
    eventually("one that made room", || gate.denials(Denial::MadeRoom) == before + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_a_known_device_leaves() {
    let household = Household::start().await;
    let gate = gate(&household, "requests_per_client: 3").await;
    let mut device = Device::new(&gate).await;
    has_requests(&gate, HOME, 0).await;
    household.hold();
    let mut answers = Vec::new();
    for _ in 0..3 {
        let states = device.with_bearer("/api/states");
        answers.push(device.http2.begin(states, true).await.0);
    }
    has_requests(&gate, HOME, 3).await;
    assert_eq!(Guest::at(&gate, HOME).get("/").await.status, 503);
    assert_eq!(device.browser().get("/").await.status, 503, "as without strangers");
    eventually("the refusals", || gate.denials(Denial::RequestsPerClient) == 2).await;
    household.release();
    for answer in answers {
        assert_eq!(within("the answer", answer).await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_devices_upload_stays_before_its_body_is_there() {
    let household = Household::start().await;
    let gate = gate(&household, "requests_per_client: 2").await;
    let access = log_in(&gate).await.access;
    let guest = Guest::at(&gate, HOME);
    let mut device = Http2Client::dial(guest.dial()).await;
    let upload = Request::post("https://ha.test/api/x").header("authorization", format!("Bearer {access}"));
    let (answer, mut body) = device.begin(upload.body(()).unwrap(), false).await;
    has_requests(&gate, HOME, 1).await;
    let before = gate.denials(Denial::MadeRoom);
    let mut stranger = Http2Client::dial(guest.dial()).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(Stay::Unsent.http2(&mut stranger).await);
    }
    eventually("strangers to make room", || gate.denials(Denial::MadeRoom) == before + 19).await;
    body.send_data("{}".into(), true).unwrap();
    assert_eq!(within("the answer", answer).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_a_request_leaves_for_a_known_device_only() {
    let household = Household::start().await;
    let gate = gate(&household, "requests_per_client: 1").await;
    let session = log_in(&gate).await;
    let before = gate.denials(Denial::MadeRoom);
    let guest = Guest::at(&gate, PROXY).with(&format!("X-Forwarded-For: {HOME}"));
    let mut held = Stay::Unsent.http1(&guest).await;
    has_requests(&gate, PROXY, 1).await;
    assert_eq!(guest.get("/").await.status, 503);
    assert_eq!(guest.clone().with(&format!("Cookie: {}", session.cookie)).get("/").await.status, 200);
    assert_eq!(held.answer().await.status, 503);
    eventually("one that made room", || gate.denials(Denial::MadeRoom) == before + 1).await;
}
