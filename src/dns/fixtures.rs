//! Providers and name servers as they answer, for tests.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Rtype, ToName};
use domain::rdata::{A, Aaaa, Cname, Ns, Soa, Txt};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::Dns;
use super::provider::Account;
use super::resolver::Resolver;
use super::transport::{DnsMessage, DnsName};
use crate::config::DnsAccount;
use crate::http_client::{Family, HttpClient};

pub fn http_client() -> HttpClient {
    crate::tls::install_provider();
    HttpClient::new(None, Family::Any).unwrap()
}

/// Asks its way at 127.0.0.1, where all name servers listen at `port`; waits for no TXT record.
pub fn dns_at(port: u16, accounts: &[DnsAccount]) -> Dns {
    let http = http_client();
    Dns {
        accounts: accounts.iter().map(|account| Account::new(account, &http)).collect(),
        resolver: Resolver::new(&[SocketAddr::from((Ipv4Addr::LOCALHOST, port))], port, Duration::from_secs(1)),
        pace: None,
    }
}

pub fn name(text: &str) -> DnsName {
    DnsName::vec_from_str(text).unwrap()
}

/// A request as a provider sees it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub authorization: Option<String>,
    pub body: String,
}

/// Answers every request, and remembers it.
pub struct WebServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl WebServer {
    pub async fn start(answer: impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), answer).await
    }

    pub async fn start_at(address: IpAddr, answer: impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let (seen, answer) = (server.seen.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (seen, answer) = (seen.clone(), answer.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let field = head.headers.get("authorization").map(|field| field.to_str().unwrap().to_owned());
                        let request = Seen {
                            method: head.method.to_string(),
                            target: head.uri.to_string(),
                            authorization: field,
                            body: String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap(),
                        };
                        seen.lock().push(request.clone());
                        let (status, body) = answer(&request);
                        let answer = Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap();
                        Ok::<_, hyper::Error>(answer)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service),
                );
            }
        });
        server
    }

    /// One that nobody answers for.
    pub async fn gone() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        Self { address, seen: Arc::default() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

/// What a name server holds or does.
#[derive(Debug, Clone)]
pub enum Entry {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(&'static str),
    Ns(&'static str),
    Soa,
    Txt(String),
    Failure(Rcode),
    /// Nothing comes back.
    Silence,
    /// By UDP only the flag that there is more.
    Truncated(String),
}

type Entries = HashMap<(Ipv4Addr, String), Vec<Entry>>;

/// What the name servers of a test hold: entries by server and name. They share a port, as the true ones share 53.
#[derive(Debug, Clone, Default)]
pub struct World {
    entries: Arc<Mutex<Entries>>,
    asked: Arc<Mutex<Vec<(Ipv4Addr, String, Rtype)>>>,
}

impl World {
    pub fn set(&self, server: Ipv4Addr, name: &str, entries: &[Entry]) {
        self.entries.lock().insert((server, name.to_owned()), entries.to_vec());
    }

    /// All questions so far.
    pub fn asked(&self) -> Vec<(Ipv4Addr, String, Rtype)> {
        self.asked.lock().clone()
    }

    /// Opens one port at all of these addresses, for UDP and TCP.
    pub async fn serve(&self, servers: &[Ipv4Addr]) -> u16 {
        for _ in 0..50 {
            let free = UdpSocket::bind((servers[0], 0)).await.unwrap().local_addr().unwrap().port();
            let mut sockets = Vec::new();
            for server in servers {
                sockets.push((
                    UdpSocket::bind((*server, free)).await,
                    TcpListener::bind((*server, free)).await,
                    *server,
                ));
            }
            if sockets.iter().all(|(udp, tcp, _)| udp.is_ok() && tcp.is_ok()) {
                for (udp, tcp, server) in sockets {
                    tokio::spawn(self.clone().by_udp(udp.unwrap(), server));
                    tokio::spawn(self.clone().by_tcp(tcp.unwrap(), server));
                }
                return free;
            }
        }
        panic!("no port is free at all addresses");
    }

    async fn by_udp(self, socket: UdpSocket, server: Ipv4Addr) {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            if let Some(answer) = self.answer(server, &buffer[..length], true) {
                // What a forger would send first.
                let _ = socket.send_to(b"nonsense", from).await;
                let _ = socket.send_to(&answer, from).await;
            }
        }
    }

    async fn by_tcp(self, listener: TcpListener, server: Ipv4Addr) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(self.clone().connection(stream, server));
        }
    }

    async fn connection(self, mut stream: TcpStream, server: Ipv4Addr) -> Option<()> {
        let mut query = vec![0; usize::from(stream.read_u16().await.ok()?)];
        stream.read_exact(&mut query).await.ok()?;
        let answer = self.answer(server, &query, false)?;
        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.ok()?;
        stream.write_all(&answer).await.ok()
    }

    fn answer(&self, server: Ipv4Addr, query: &[u8], udp: bool) -> Option<Vec<u8>> {
        let query = Message::from_octets(query.to_vec()).unwrap();
        let question = query.sole_question().unwrap();
        let (owner, kind): (DnsName, _) = (question.qname().to_name(), question.qtype());
        self.asked.lock().push((server, owner.to_string(), kind));
        let entries = self.entries.lock().get(&(server, owner.to_string().to_lowercase())).cloned();
        let rcode = match entries.as_deref() {
            None => Rcode::NXDOMAIN,
            Some([Entry::Silence]) => return None,
            Some([Entry::Failure(code)]) => *code,
            Some(_) => Rcode::NOERROR,
        };
        let mut message = MessageBuilder::new_vec().start_answer(&query, rcode).unwrap();
        for entry in entries.unwrap_or_default() {
            let txt = |text: &str| Txt::<Vec<u8>>::build_from_slice(text.as_bytes()).unwrap();
            match (entry, kind) {
                (Entry::A(address), Rtype::A) => message.push((&owner, 60, A::new(address))).unwrap(),
                (Entry::Aaaa(address), Rtype::AAAA) => message.push((&owner, 60, Aaaa::new(address))).unwrap(),
                (Entry::Cname(to), _) => message.push((&owner, 60, Cname::new(name(to)))).unwrap(),
                (Entry::Ns(to), Rtype::NS) => message.push((&owner, 60, Ns::new(name(to)))).unwrap(),
                (Entry::Soa, Rtype::SOA) => message.push((&owner, 60, soa())).unwrap(),
                (Entry::Txt(text), Rtype::TXT) => message.push((&owner, 60, txt(&text))).unwrap(),
                (Entry::Truncated(_), Rtype::TXT) if udp => message.header_mut().set_tc(true),
                (Entry::Truncated(text), Rtype::TXT) => message.push((&owner, 60, txt(&text))).unwrap(),
                _ => {}
            }
        }
        // As in life, a SOA comes with "there is none".
        let mut message = message.authority();
        if message.counts().ancount() == 0
            && let Some(zone) = self.zone_of(server, &owner)
        {
            message.push((zone, 60, soa())).unwrap();
        }
        Some(message.finish())
    }

    fn zone_of(&self, server: Ipv4Addr, name: &DnsName) -> Option<DnsName> {
        let entries = self.entries.lock();
        let is_apex = |above: &DnsName| {
            let held = entries.get(&(server, above.to_string().to_lowercase()));
            held.is_some_and(|entries| entries.iter().any(|entry| matches!(entry, Entry::Soa)))
        };
        name.iter_suffixes().map(|above| above.to_name()).find(is_apex)
    }
}

/// An answer with a record of every kind that is read, of which some bytes are others and the end may be missing.
pub fn broken_answer() -> impl Strategy<Value = DnsMessage> {
    let (owner, target) = (name("a.example.org"), name("b.example.org"));
    let mut message = MessageBuilder::new_vec().question();
    message.push((&owner, Rtype::TXT)).unwrap();
    let mut message = message.answer();
    message.push((&owner, 60, soa())).unwrap();
    message.push((&owner, 60, Cname::new(&target))).unwrap();
    message.push((&owner, 60, Ns::new(&target))).unwrap();
    message.push((&owner, 60, A::new(Ipv4Addr::LOCALHOST))).unwrap();
    message.push((&owner, 60, Aaaa::new(Ipv6Addr::LOCALHOST))).unwrap();
    message.push((&owner, 60, Txt::<Vec<u8>>::build_from_slice(b"value-1").unwrap())).unwrap();
    let whole = message.finish();
    let length = whole.len();
    (prop::collection::vec((0..length, any::<u8>()), 0..8), 12..=length).prop_map(move |(changes, end)| {
        let mut bytes = whole.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(end);
        Message::from_octets(bytes).unwrap()
    })
}

fn soa() -> Soa<DnsName> {
    let seconds = domain::base::Ttl::from_secs;
    Soa::new(
        name("ns1.example.org"),
        name("admin.example.org"),
        1.into(),
        seconds(1),
        seconds(1),
        seconds(1),
        seconds(1),
    )
}
