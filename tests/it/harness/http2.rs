//! An HTTP/2 client that keeps the rules, by the h2 crate.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, SendStream};
use http::{HeaderMap, Request, Response};

use super::{Gate, within};
use crate::harness::gate::Dial;

pub struct Http2Client {
    sender: SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Http2Answer {
    pub status: u16,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
}

pub type Outcome = Result<Http2Answer, h2::Error>;

impl Http2Client {
    pub async fn connect(gate: &Gate) -> Self {
        Self::dial(gate.dial()).await
    }

    pub async fn dial(dial: Dial<'_>) -> Self {
        let stream = dial.alpn("h2").tls().await.unwrap();
        let (sender, connection) = within("an HTTP/2 handshake", h2::client::handshake(stream)).await.unwrap();
        Self { sender, connection: tokio::spawn(connection) }
    }

    /// Sends a whole request.
    pub async fn send(&mut self, request: Request<()>, body: &[u8]) -> Outcome {
        let (answer, mut stream) = self.begin(request, body.is_empty()).await;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body), true).unwrap();
        }
        finish(answer).await
    }

    pub async fn get(&mut self, path: &str) -> Outcome {
        let request = Request::get(format!("https://ha.test{path}")).body(()).unwrap();
        self.send(request, b"").await
    }

    /// Sends a head; the body is the caller's.
    pub async fn begin(&mut self, request: Request<()>, end: bool) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let ready = within("a free stream", self.sender.clone().ready()).await;
        ready.unwrap().send_request(request, end).unwrap()
    }

    /// Waits for the end of the connection; the reason if the gate gave one.
    pub async fn closed(self) -> Option<Reason> {
        drop(self.sender);
        within("the end of the connection", self.connection).await.unwrap().err().and_then(|error| error.reason())
    }
}

pub async fn finish(answer: h2::client::ResponseFuture) -> Outcome {
    within("an answer", async {
        let (head, mut incoming) = answer.await?.into_parts();
        let mut body = Vec::new();
        while let Some(piece) = incoming.data().await {
            let piece = piece?;
            body.extend_from_slice(&piece);
            incoming.flow_control().release_capacity(piece.len())?;
        }
        let head = Response::from_parts(head, ());
        Ok(Http2Answer { status: head.status().as_u16(), fields: head.headers().clone(), body })
    })
    .await
}
