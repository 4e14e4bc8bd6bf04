//! A connection of our own to an upstream: for WebSockets, which leave Pingora after the 101, and for health checks.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Upstream;
use super::health::Trouble;
use crate::websocket::handover::Io;

/// No connection could be made.
#[derive(Debug, thiserror::Error)]
#[error("{}", .trouble.advice())]
pub struct DialError {
    pub trouble: Trouble,
    #[source]
    source: Option<io::Error>,
}

impl DialError {
    fn new(trouble: Trouble, source: io::Error) -> Self {
        Self { trouble, source: Some(source) }
    }
}

/// A fresh connection and our own address on it.
pub struct Dialled {
    pub io: Io,
    pub local: IpAddr,
}

impl Upstream {
    /// Connects, trying each address once, TLS included, each step within the connect timeout.
    pub async fn dial(&self) -> Result<Dialled, DialError> {
        let mut last = DialError { trouble: Trouble::Dns, source: None };
        for _ in 0..self.address_count() {
            let Some(address) = self.address() else { break };
            match self.dial_address(address).await {
                Ok(dialled) => return Ok(dialled),
                Err(error) => {
                    self.avoid(address);
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn dial_address(&self, address: SocketAddr) -> Result<Dialled, DialError> {
        let socket = timeout(self.connect_timeout, TcpStream::connect(address))
            .await
            .map_err(|late| DialError::new(Trouble::Unreachable, late.into()))?
            .map_err(|error| DialError::new(connect_trouble(&error), error))?;
        let facts = socket.set_nodelay(true).and_then(|()| socket.local_addr());
        let local = facts.map_err(|error| DialError::new(Trouble::Broken, error))?.ip().to_canonical();
        let Some(tls) = &self.tls else { return Ok(Dialled { io: Box::new(socket), local }) };
        let name = ServerName::try_from(self.config.host.clone())
            .map_err(|error| DialError::new(Trouble::Tls, io::Error::other(error)))?;
        let handshake = tokio_rustls::TlsConnector::from(Arc::clone(tls)).connect(name, socket);
        let stream = timeout(self.connect_timeout, handshake)
            .await
            .map_err(|late| DialError::new(Trouble::Tls, late.into()))?
            .map_err(|error| DialError::new(Trouble::Tls, error))?;
        Ok(Dialled { io: Box::new(stream), local })
    }
}

fn connect_trouble(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Trouble::Refused,
        _ => Trouble::Unreachable,
    }
}
