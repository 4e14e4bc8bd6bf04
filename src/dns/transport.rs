//! One question to one name server: UDP first, TCP where the answer does not fit (RFC 1035, section 4.2).
//!
//! An answer counts if it comes from the server's address, carries the question's number, which is random as the port
//! is, and repeats the question (RFC 5452). Nothing is remembered.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::{Message, MessageBuilder, Name, Rtype};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Compared without regard to case, as DNS does.
pub(super) type DnsName = Name<Vec<u8>>;
pub(super) type DnsMessage = Message<Vec<u8>>;

/// Whether a server may ask others before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recursion {
    Desired,
    /// Only what the server knows itself.
    None,
}

/// Why a server has not answered.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("{0}")]
    Network(#[from] io::Error),
}

/// Asks `server`, for `patience` at most by UDP and as long again by TCP.
pub(super) async fn ask(
    server: SocketAddr,
    name: &DnsName,
    kind: Rtype,
    recursion: Recursion,
    patience: Duration,
) -> Result<DnsMessage, NoAnswer> {
    let query = question(name, kind, recursion)?;
    let answer = by_udp(server, &query, patience).await?;
    if answer.header().tc() { by_tcp(server, &query, patience).await } else { Ok(answer) }
}

fn question(name: &DnsName, kind: Rtype, recursion: Recursion) -> io::Result<DnsMessage> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_random_id();
    message.header_mut().set_rd(recursion == Recursion::Desired);
    let mut message = message.question();
    message.push((name, kind)).map_err(io::Error::other)?;
    let mut message = message.additional();
    message
        .opt(|options| {
            options.set_udp_payload_size(UDP_PAYLOAD);
            Ok(())
        })
        .map_err(io::Error::other)?;
    Ok(message.into_message())
}

/// A datagram may get lost: half-way through, the question is sent once more.
async fn by_udp(server: SocketAddr, query: &DnsMessage, patience: Duration) -> Result<DnsMessage, NoAnswer> {
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    for _ in 0..SENDINGS {
        socket.send(query.as_slice()).await?;
        if let Ok(answer) = timeout(patience / SENDINGS, datagram(&socket, query)).await {
            return Ok(answer?);
        }
    }
    Err(NoAnswer::Timeout(patience))
}

async fn datagram(socket: &UdpSocket, query: &DnsMessage) -> io::Result<DnsMessage> {
    let mut buffer = [0; UDP_PAYLOAD as usize];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Whatever else arrives here was sent by somebody who guesses: the true answer may still come.
        let Ok(answer) = Message::from_octets(buffer[..length].to_vec()) else { continue };
        if answer.is_answer(query) {
            return Ok(answer);
        }
    }
}

/// Exchanges one message of any kind.
pub(super) async fn by_tcp(server: SocketAddr, query: &DnsMessage, patience: Duration) -> Result<DnsMessage, NoAnswer> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(query.as_slice().len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), query.as_slice()].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        let answer = Message::from_octets(answer).map_err(io::Error::other)?;
        if answer.is_answer(query) { Ok(answer) } else { Err(io::Error::other("an answer to another question")) }
    };
    timeout(patience, exchange).await.map_err(|_| NoAnswer::Timeout(patience))?.map_err(NoAnswer::Network)
}

/// What passes every network whole (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1232;
const SENDINGS: u32 = 2;
