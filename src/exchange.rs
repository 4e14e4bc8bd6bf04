//! What the front door and the proxy share about one connection and one request on it.
//!
//! The front door makes an [`Exchange`] for each request; the proxy finds it in the session's digest. It holds facts
//! and counters only: what they mean is decided by their readers.

mod seat;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use parking_lot::Mutex;

pub use seat::{Effort, Seat};

use crate::client::ClientAddr;
use crate::config::RequestClass;
use crate::denial::Denial;
use crate::websocket::deflate::Deflate;
use crate::websocket::greet::Doorkeeper;
use crate::websocket::handover::{Handover, Io};

/// What is known of one client connection once its TLS handshake is done.
#[derive(Debug)]
pub struct Connection {
    /// The peer, or whom a PROXY protocol header named.
    pub peer: ClientAddr,
    /// The name in the TLS handshake, in normal form; `None` without TLS.
    pub server_name: Option<Arc<str>>,
    /// The TLS settings by which a client certificate was demanded, and shown.
    pub client_auth: Option<Arc<rustls::ServerConfig>>,
    /// The connection is over a limit: its first request is answered with this and nothing else.
    pub denied: Option<Denial>,
    /// Its own among those of its client.
    pub seat: Arc<Seat>,
    /// Counts the request body bytes that arrived on an HTTP/2 connection, read or not.
    pub http2_body_bytes: AtomicU64,
    /// Counts the request body bytes of all streams that the proxy has read.
    pub body_bytes_read: AtomicU64,
    write_stalled: AtomicBool,
    proven: AtomicBool,
}

impl Connection {
    pub fn new(peer: ClientAddr, seat: Arc<Seat>, denied: Option<Denial>) -> Self {
        Self {
            peer,
            server_name: None,
            client_auth: None,
            denied,
            seat,
            http2_body_bytes: AtomicU64::new(0),
            body_bytes_read: AtomicU64::new(0),
            write_stalled: AtomicBool::new(false),
            proven: AtomicBool::new(false),
        }
    }

    /// What the TLS handshake has shown: the name, and the settings by which the client had to show a certificate.
    pub fn with_tls(self, server_name: Option<Arc<str>>, client_auth: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self { server_name, client_auth, ..self }
    }

    /// A stream has ended with some of its body unread, which will never be.
    pub fn write_off_unread(&self) {
        self.body_bytes_read.fetch_max(self.http2_body_bytes.load(Relaxed), Relaxed);
    }

    /// The client has taken nothing of what it was sent for too long.
    pub fn set_write_stalled(&self) {
        self.write_stalled.store(true, Relaxed);
    }

    /// Somebody has proven a session on it.
    pub fn set_proven(&self) {
        self.proven.store(true, Relaxed);
        self.seat.prove();
    }

    /// From here on it belongs to one WebSocket, which has yet to prove a session unless `is_proven`.
    pub fn begin_websocket(&self, is_proven: bool) {
        self.proven.store(is_proven, Relaxed);
        if is_proven {
            self.seat.prove();
        }
    }

    pub fn is_proven(&self) -> bool {
        self.proven.load(Relaxed)
    }

    /// The client was banned: the connection ends, unless somebody has proven a session on it.
    pub fn turn_out(&self) {
        if !self.is_proven() {
            self.seat.ban();
        }
    }

    pub fn is_write_stalled(&self) -> bool {
        self.write_stalled.load(Relaxed)
    }
}

/// One request and its answer.
#[derive(Default)]
pub struct Progress {
    /// Body bytes of this request that the proxy has read.
    body_bytes: AtomicU64,
    /// Those of them that the front door has read, and the proxy will see again.
    read_ahead: AtomicU64,
    body_done: AtomicBool,
    /// HTTP/1: the proxy waits for the client's next body byte.
    awaiting_client: AtomicBool,
    /// A byte of the answer has been written.
    answered: AtomicBool,
    /// The proxy has taken the request over and will record how it ends.
    taken: AtomicBool,
    denial: Mutex<Option<Denial>>,
    /// HTTP/1: the client's stream, once the proxy has let go of it.
    client: Mutex<Option<ReturnedClient>>,
}

/// A client's stream as the proxy has left it.
pub struct ReturnedClient {
    pub io: Io,
    /// Read, and not of the request.
    pub ahead: BytesMut,
    /// Written by the proxy, and not sent yet.
    pub unsent: BytesMut,
}

/// One request on a connection.
pub struct Exchange {
    pub connection: Arc<Connection>,
    pub progress: Progress,
    /// Its own among the requests in flight of its client.
    pub seat: Arc<Seat>,
    /// Present on a request that asks for an upgrade.
    pub handover: Option<Handover>,
    /// Set by the proxy once the request may be forwarded: for whom, and to which host.
    accepted: OnceLock<(ClientAddr, Arc<str>)>,
    /// Set by the proxy once it knows what kind of request this is.
    class: OnceLock<RequestClass>,
    /// Set by the proxy on a WebSocket that begins with a login.
    greeting: Mutex<Option<Greeting>>,
}

/// How a WebSocket that begins with a login is to be greeted.
pub struct Greeting {
    /// As the 101 has agreed.
    pub deflate: Option<Deflate>,
    pub doorkeeper: Box<dyn Doorkeeper>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Exchange {
    /// `with_body`: whether any request body is still to come.
    pub fn new(connection: Arc<Connection>, with_body: bool, handover: Option<Handover>) -> Self {
        let progress = Progress { body_done: AtomicBool::new(!with_body), ..Progress::default() };
        Self {
            connection,
            progress,
            seat: Arc::default(),
            handover,
            accepted: OnceLock::new(),
            class: OnceLock::new(),
            greeting: Mutex::default(),
        }
    }

    /// A known device asks, from `client`: the request keeps its seat, and so does its connection, unless that is a
    /// trusted proxy's, which lends it to others as well.
    pub fn set_known(&self, client: ClientAddr) {
        self.seat.prove();
        if client == self.connection.peer {
            self.connection.seat.prove();
        }
    }

    /// The request may be forwarded: its verified client, and its host as configured.
    pub fn accept(&self, client: ClientAddr, host: Arc<str>) {
        // A request is accepted once; a second call would say the same.
        let _ = self.accepted.set((client, host));
    }

    /// It is known what kind of request this is.
    pub fn classify(&self, class: RequestClass) {
        // As with `accept`.
        let _ = self.class.set(class);
    }

    /// What kind of request this is, if that is known.
    pub fn class(&self) -> Option<RequestClass> {
        self.class.get().copied()
    }

    /// The WebSocket begins with a login.
    pub fn set_greeting(&self, greeting: Greeting) {
        *self.greeting.lock() = Some(greeting);
    }

    pub fn take_greeting(&self) -> Option<Greeting> {
        self.greeting.lock().take()
    }

    /// Whose request this is.
    pub fn client(&self) -> ClientAddr {
        self.accepted.get().map_or(self.connection.peer, |(client, _)| *client)
    }

    /// The configured host it is for.
    pub fn host(&self) -> Option<Arc<str>> {
        self.accepted.get().map(|(_, host)| host.clone())
    }
}

impl Progress {
    /// The front door has read a piece of the request body, which the proxy will see again.
    pub fn body_read_ahead(&self, connection: &Connection, bytes: usize) {
        self.count_body(connection, bytes as u64);
        self.read_ahead.fetch_add(bytes as u64, Relaxed);
    }

    fn count_body(&self, connection: &Connection, bytes: u64) {
        self.body_bytes.fetch_add(bytes, Relaxed);
        connection.body_bytes_read.fetch_add(bytes, Relaxed);
    }

    /// The proxy has read a piece of the request body.
    pub fn body_read(&self, connection: &Connection, bytes: usize, end: bool) {
        let bytes = bytes as u64;
        let before = self.read_ahead.load(Relaxed);
        let seen = before.min(bytes);
        self.read_ahead.store(before - seen, Relaxed);
        self.count_body(connection, bytes - seen);
        if end {
            self.body_done.store(true, Relaxed);
        }
    }

    /// The request is tried again: what has been read of its body comes once more.
    pub fn body_replayed(&self) {
        self.read_ahead.store(self.body_bytes(), Relaxed);
    }

    /// There is no request body.
    pub fn set_body_done(&self) {
        self.body_done.store(true, Relaxed);
    }

    pub fn body_bytes(&self) -> u64 {
        self.body_bytes.load(Relaxed)
    }

    pub fn is_body_done(&self) -> bool {
        self.body_done.load(Relaxed)
    }

    pub fn set_awaiting_client(&self, awaiting: bool) {
        self.awaiting_client.store(awaiting, Relaxed);
    }

    pub fn is_awaiting_client(&self) -> bool {
        self.awaiting_client.load(Relaxed)
    }

    pub fn set_answered(&self) {
        self.answered.store(true, Relaxed);
    }

    pub fn is_answered(&self) -> bool {
        self.answered.load(Relaxed)
    }

    pub fn set_taken(&self) {
        self.taken.store(true, Relaxed);
    }

    pub fn is_taken(&self) -> bool {
        self.taken.load(Relaxed)
    }

    /// The front door has ended this request, and why; the first reason stays.
    pub fn deny(&self, denial: Denial) {
        self.denial.lock().get_or_insert(denial);
    }

    pub fn denial(&self) -> Option<Denial> {
        *self.denial.lock()
    }

    pub fn return_client(&self, client: ReturnedClient) {
        *self.client.lock() = Some(client);
    }

    pub fn take_client(&self) -> Option<ReturnedClient> {
        self.client.lock().take()
    }
}
