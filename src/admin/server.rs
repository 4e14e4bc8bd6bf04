//! Listens on both doors. Each connection serves one request and is over after fifteen seconds.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::Control;
use super::answer::{Answers, Door, REQUEST_PATIENCE};
use super::socket::AdminSocket;
use super::status_page::form_token;
use crate::config;

/// The running admin listeners. Dropping it closes them at once and removes the socket's file.
pub struct AdminServer {
    address: Option<SocketAddr>,
    doors: JoinSet<()>,
}

impl AdminServer {
    /// Binds the Unix socket named by `config` and serves it and `tcp`, if given.
    ///
    /// At most 64 connections are open per door; more wait in the kernel's queue, so that a flood
    /// over TCP does not keep the operator from the Unix socket.
    ///
    /// # Errors
    ///
    /// If the socket cannot be bound, for one because another gate answers on it.
    pub async fn start(
        config: &config::Admin,
        tcp: Option<TcpListener>,
        registry: Registry,
        control: Arc<dyn Control>,
    ) -> io::Result<Self> {
        let form_token = form_token()?;
        let answers = Arc::new(Answers { control, registry, token: config.token.clone(), form_token });
        let socket = AdminSocket::bind(&config.socket).await?;
        let address = tcp.as_ref().map(TcpListener::local_addr).transpose()?;
        let mut doors = JoinSet::new();
        doors.spawn(serve_socket(socket, Arc::clone(&answers)));
        if let (Some(listener), Some(address)) = (tcp, address) {
            doors.spawn(serve_network(listener, Door::Network(address.ip()), answers));
        }
        Ok(Self { address, doors })
    }

    /// Where the TCP listener is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Closes both doors and returns when the socket's file is gone.
    pub async fn stop(mut self) {
        self.doors.shutdown().await;
    }
}

async fn serve_network(listener: TcpListener, door: Door, answers: Arc<Answers>) {
    let mut connections = Connections::new();
    loop {
        let permit = connections.permit().await;
        match listener.accept().await {
            Ok((stream, _)) => connections.serve(stream, door, &answers, permit),
            Err(error) => rest_after(&error).await,
        }
    }
}

async fn serve_socket(socket: AdminSocket, answers: Arc<Answers>) {
    let mut connections = Connections::new();
    loop {
        let permit = connections.permit().await;
        match socket.accept().await {
            Ok(stream) if socket.is_allowed(&stream) => connections.serve(stream, Door::Socket, &answers, permit),
            Ok(_) => log::warn!("admin socket refused a user other than root and the gate's own"),
            Err(error) => rest_after(&error).await,
        }
    }
}

/// The connections of one door. They end with it.
struct Connections {
    free: Arc<Semaphore>,
    open: JoinSet<()>,
}

impl Connections {
    fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(CONNECTIONS)), open: JoinSet::new() }
    }

    async fn permit(&mut self) -> Option<OwnedSemaphorePermit> {
        // Forgets tasks that are over; otherwise their results would pile up.
        while self.open.try_join_next().is_some() {}
        // The semaphore is never closed, so that there always is a permit in the end.
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    fn serve<S>(&mut self, stream: S, door: Door, answers: &Arc<Answers>, permit: Option<OwnedSemaphorePermit>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let answers = Arc::clone(answers);
        let service = service_fn(move |request| Arc::clone(&answers).answer(door, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .keep_alive(false)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        self.open.spawn(async move {
            // A client that breaks off or dawdles is none of the operator's business.
            let _ = tokio::time::timeout(HEAD_PATIENCE + REQUEST_PATIENCE, connection).await;
            drop(permit);
        });
    }
}

/// Out of file descriptors: wait for some to come back instead of spinning.
async fn rest_after(error: &io::Error) {
    log::warn!("admin listener cannot accept error={error}");
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Open connections per door.
const CONNECTIONS: usize = 64;

/// From accept to the end of the request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);

/// All bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
