//! The promise of the lane: whatever strangers do from an address, who has proven a session from there is answered as
//! if they were not there.

use hearthgate::denial::Denial;

use crate::harness::guest::{Session, json_of};
use crate::harness::websocket::UPGRADE;
use crate::harness::{Client, Gate, Guest, Household, guarded, within};

/// So tight that strangers run into everything, and the device into nothing that is its neighbours'.
const TIGHT: &str = "login: {max_failures: 3, account_failures: 5, delay: 60s}, bans: {first: 1s, factor: 1}, \
                     rate_limits: {page: {rate: 1/h, burst: 40}, api: {rate: 1/h, burst: 60}, \
                     auth: {rate: 1/h, burst: 90}, websocket: {rate: 1/h, burst: 30}, static: {rate: 1/h, burst: 40}}";
const PLACES: &str = "limits: {connections_per_client: 12, requests_per_client: 6}";
const IP: &str = "203.0.113.1";
const STEPS: usize = 200;

/// Xorshift (Marsaglia 2003): the same story in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Something that a stranger does; how it is answered is of no interest here. What it leaves open is given back.
async fn misbehave(gate: &Gate, dice: &mut Dice) -> Option<Client> {
    let guest = Guest::at(gate, IP);
    let guess = dice.roll(1 << 40);
    let login = format!("{{\"client_id\":\"x\",\"username\":\"owner\",\"password\":\"{guess}\"}}");
    let token = format!("grant_type=refresh_token&refresh_token={guess}");
    let kind = dice.roll(11);
    let bytes = match kind {
        0 | 1 => guest.request("POST", &format!("/auth/login_flow/{:032x}", dice.roll(9)), login.as_bytes()),
        2 => guest.clone().bearer(&guess.to_string()).request("GET", "/api/states", b""),
        3 => guest.clone().with(crate::harness::guest::FORM).request("POST", "/auth/token", token.as_bytes()),
        4 => guest.request("GET", "/static/%2e%2e/api/states", b""),
        5 => guest.request("GET", "/", b"").repeat(10),
        6 => {
            let text = format!("{{\"access_token\":\"{guess}\"}}");
            let frame = [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat();
            [UPGRADE.as_bytes(), &frame].concat()
        }
        7 => guest.clone().with("Cookie: __Host-hearthgate=forged").request("POST", "/api/x", b"{}"),
        8 => return Some(Client::new(guest.dial().tcp().await)),
        9 => Vec::new(),
        // So much of a body that it takes a place, and never all of it.
        _ => guest.request("POST", "/auth/login_flow", &[b' '; 10_000])[..6_000].to_vec(),
    };
    let mut client = Client::new(guest.dial().tls().await.ok()?);
    let is_sent = client.try_send(bytes).await.is_ok();
    if kind < 9 && is_sent {
        within("some answer", client.more()).await;
    }
    (kind >= 9).then_some(client)
}

/// A device that has logged in to one gate.
struct Device<'g> {
    at: Guest<'g>,
    session: Session,
}

impl<'g> Device<'g> {
    async fn new(gate: &'g Gate) -> Self {
        let at = Guest::at(gate, IP);
        let session = at.log_in().await;
        Self { at, session }
    }

    /// Does one thing; what it hears.
    async fn live(&mut self, what: u64) -> String {
        let browser = self.at.clone().with(&format!("Cookie: {}", self.session.cookie));
        let app = self.at.clone().bearer(&self.session.access);
        let heard = |answer: &crate::harness::Answer| format!("{} {}", answer.status, answer.body.len() < 40);
        match what {
            0 => heard(&browser.get("/").await),
            1 => heard(&app.get("/api/states").await),
            2 => heard(&app.ask("POST", "/api/services/light/turn_on", b"{}").await),
            3 => {
                let answer = self.at.refresh(&self.session.refresh).await;
                if answer.status == 200 {
                    self.session.access = json_of(&answer)["access_token"].as_str().unwrap().to_owned();
                }
                answer.status.to_string()
            }
            4 => self.at.show(&self.session.access).await.1.unwrap_or_else(|| "closed".into()),
            5 => heard(&browser.get("/static/a.js").await),
            6 => heard(&browser.post("/auth/login_flow", crate::harness::guest::START).await),
            _ => heard(&browser.get("/auth/providers").await),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_strangers_do_who_has_proven_a_session_is_answered_as_if_they_were_not_there() {
    for seed in [0x9e37_79b9_7f4a_7c15, 0x2545_f491_4f6c_dd1d] {
        let (noisy, quiet) = (Household::start().await, Household::start().await);
        let tight = |household| guarded(household, TIGHT).section(PLACES);
        let (crowded, calm) = (tight(&noisy).start().await, tight(&quiet).start().await);
        let (mut harried, mut content) = (Device::new(&crowded).await, Device::new(&calm).await);
        let mut dice = Dice(seed);
        let mut left_open = Vec::new();
        for step in 0..STEPS {
            left_open.extend(misbehave(&crowded, &mut dice).await);
            let what = dice.roll(8);
            let (one, other) = (harried.live(what).await, content.live(what).await);
            assert_eq!(one, other, "seed {seed:x}, step {step}, thing {what}");
        }
        assert!(crowded.denials(Denial::MadeRoom) > 0, "there was room for all");
        assert!(crowded.metric("hearthgate_bans_total{cause=\"login\"}").unwrap() > 0.0, "nobody misbehaved");
    }
}
