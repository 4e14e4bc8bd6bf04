use std::sync::Arc;
use std::time::Duration;

use domain::base::Message;
use domain::tsig::{ServerError, ServerTransaction};
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::Secret;
use crate::dns::fixtures::name;

const SECRET: &str = "c2VjcmV0IG9mIHRoaXMgdGVzdA==";
const RECORD: &str = "_acme-challenge.ha.example.org";

/// A name server with the zone example.org, which answers as RFC 8945 wants it and notes the updates.
#[derive(Clone)]
struct StandIn {
    key: Key,
    updates: Arc<Mutex<Vec<String>>>,
    /// For updates.
    code: Rcode,
    /// How wrong its clock is, in seconds.
    late: u64,
    signs: bool,
}

impl StandIn {
    fn new() -> Self {
        let key = updates(([127, 0, 0, 1], 1).into(), SECRET).key().unwrap();
        Self { key, updates: Arc::default(), code: Rcode::NOERROR, late: 0, signs: true }
    }

    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                server.connection(stream).await;
            }
        });
        address
    }

    async fn connection(&self, mut stream: TcpStream) {
        let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut query).await.unwrap();
        let answer = self.answer(Message::from_octets(query).unwrap());
        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }

    fn answer(&self, mut query: DnsMessage) -> Vec<u8> {
        let now = Time48::from_u64(u64::from(now()) + self.late);
        let transaction = match ServerTransaction::request(&&self.key, &mut query, now) {
            Ok(transaction) => transaction.unwrap(),
            Err(error) => return refusal(error, &query),
        };
        let zone = name("example.org");
        let is_update = query.header().opcode() == Opcode::UPDATE;
        let code = if is_update { self.code } else { Rcode::NOERROR };
        let mut answer = MessageBuilder::new_vec().start_answer(&query, code).unwrap();
        if is_update {
            self.updates.lock().push(changes(&query));
        }
        let asked: DnsName = query.sole_question().unwrap().qname().to_name();
        if !is_update && asked == zone {
            answer.push((&zone, 60, soa())).unwrap();
        }
        let mut answer = answer.authority();
        if !is_update && asked != zone && asked.ends_with(&zone) {
            answer.push((&zone, 60, soa())).unwrap();
        }
        let mut answer = answer.additional();
        if self.signs {
            transaction.answer(&mut answer, now).unwrap();
        }
        answer.finish()
    }
}

fn refusal(error: ServerError<&Key>, query: &DnsMessage) -> Vec<u8> {
    error.build_message(query, MessageBuilder::new_vec()).unwrap().finish()
}

fn soa() -> domain::rdata::Soa<DnsName> {
    let ttl = Ttl::ZERO;
    domain::rdata::Soa::new(name("ns1.example.org"), name("admin.example.org"), 1.into(), ttl, ttl, ttl, ttl)
}

/// The zone and what is to be done with it, as it came over the wire.
fn changes(update: &DnsMessage) -> String {
    let mut lines = vec![update.sole_question().unwrap().to_string()];
    for record in update.update().unwrap() {
        let record = record.unwrap();
        let line = format!("{} {} {} {}", record.owner(), record.ttl().as_secs(), record.class(), record.rtype());
        let data = match record.rdlen() {
            0 => String::new(),
            _ => format!(" {}", record.to_any_record::<domain::rdata::AllRecordData<_, _>>().unwrap().data()),
        };
        lines.push(line + &data);
    }
    lines.join("\n")
}

fn updates(server: SocketAddr, key: &str) -> Updates {
    let (key_name, algorithm) = ("acme.home".to_owned(), TsigAlgorithm::HmacSha256);
    Updates { account: Rfc2136 { server, key_name, algorithm, key: Secret::new(key.to_owned()) } }
}

#[tokio::test]
async fn a_txt_record_is_added_and_exactly_it_is_taken_away() {
    let stand_in = StandIn::new();
    let updates = updates(stand_in.start().await, SECRET);
    updates.set_txt(&name(RECORD), "value-1").await.unwrap();
    updates.clear_txt(&name(RECORD), "value-1").await.unwrap();
    let expected = [
        "example.org.\tSOA\tIN\n_acme-challenge.ha.example.org 60 IN TXT \"value-1\"",
        "example.org.\tSOA\tIN\n_acme-challenge.ha.example.org 0 NONE TXT \"value-1\"",
    ];
    assert_eq!(*stand_in.updates.lock(), expected);
}

#[tokio::test]
async fn addresses_replace_those_of_their_family() {
    let stand_in = StandIn::new();
    let updates = updates(stand_in.start().await, SECRET);
    let (ipv4, ipv6) = ("203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap());
    let name = name("ha.example.org");
    updates.point(&name, Addresses { ipv4: Some(ipv4), ipv6: None }).await.unwrap();
    updates.point(&name, Addresses { ipv4: None, ipv6: Some(ipv6) }).await.unwrap();
    updates.point(&name, Addresses::default()).await.unwrap();
    let expected = [
        "example.org.\tSOA\tIN\nha.example.org 0 * A\nha.example.org 60 IN A 203.0.113.7",
        "example.org.\tSOA\tIN\nha.example.org 0 * AAAA\nha.example.org 60 IN AAAA 2001:db8::7",
    ];
    assert_eq!(*stand_in.updates.lock(), expected);
}

#[tokio::test]
async fn what_a_server_minds_is_said_in_words() {
    let good = StandIn::new();
    for (stand_in, key, expected) in [
        (StandIn { code: Rcode::REFUSED, ..good.clone() }, SECRET, "refuses (REFUSED): does its `update-policy`"),
        (StandIn { code: Rcode::NOTAUTH, ..good.clone() }, SECRET, "(NOTAUTH): name the zone's primary server"),
        (StandIn { code: Rcode::SERVFAIL, ..good.clone() }, SECRET, "(SERVFAIL): may it write to the zone's file"),
        (StandIn { late: 4000, ..good.clone() }, SECRET, "the clocks differ by 4000 s (BADTIME): set this machine's"),
        (StandIn { signs: false, ..good.clone() }, SECRET, "cannot be trusted"),
        (good.clone(), "b3RoZXI=", "cannot be trusted"),
        (good.clone(), "not base64", "the key's secret is not base64"),
    ] {
        let updates = updates(stand_in.start().await, key);
        let error = updates.set_txt(&name(RECORD), "value-1").await.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let mut stranger = updates(good.start().await, SECRET);
    stranger.account.key_name = "stranger".to_owned();
    let error = stranger.set_txt(&name(RECORD), "value-1").await.unwrap_err().to_string();
    assert!(error.contains("does not know the key `stranger`"), "{error}");
    let error =
        updates(good.start().await, SECRET).set_txt(&name("ha.example.com"), "v").await.unwrap_err().to_string();
    assert!(error.contains("knows no zone that holds it; it says no such record"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_to_be_so() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = updates(free, SECRET).set_txt(&name(RECORD), "v").await.unwrap_err();
    assert!(matches!(error, UpdateError::NoAnswer { .. }), "{error}");
    assert!(!format!("{error:?} {:?}", updates(free, SECRET)).contains(SECRET));
}

proptest! {
    /// Who changes bytes on the way does not turn a refusal into a yes, whatever else the answer then looks like.
    #[test]
    fn a_refusal_stays_a_refusal(changes in prop::collection::vec((0..1000_usize, any::<u8>()), 0..5)) {
        let stand_in = StandIn { code: Rcode::REFUSED, ..StandIn::new() };
        let mut query = MessageBuilder::new_vec();
        query.header_mut().set_opcode(Opcode::UPDATE);
        let mut query = query.question();
        query.push((name("example.org"), Rtype::SOA)).unwrap();
        let mut query = query.additional();
        let transaction = ClientTransaction::request(&stand_in.key, &mut query, now()).unwrap();
        let mut answer = stand_in.answer(query.into_message());
        let length = answer.len();
        for (at, byte) in changes {
            answer[at % length] = byte;
        }
        let mut answer = Message::from_octets(answer).unwrap();
        clock_difference(&answer);
        if transaction.answer(&mut answer, now()).is_ok() {
            prop_assert_eq!(answer.header().rcode(), Rcode::REFUSED);
        }
    }
}

#[test]
fn the_clock_of_signatures_counts_from_1970() {
    let now = u64::from(now());
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(now <= since.as_secs() && Duration::from_secs(now) + Duration::from_secs(5) > since);
}
