//! The listening sockets: given by systemd, or bound here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use listenfd::ListenFd;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::StartOptions;
use crate::admin::Listeners;
use crate::config::Config;
use crate::listener::{Door, Role, accept};

/// Every listening TCP socket, bound.
pub(super) struct Sockets {
    pub https: Vec<TcpListener>,
    pub http: Vec<TcpListener>,
    pub admin: Option<TcpListener>,
}

impl Sockets {
    pub async fn bind(config: &Config, options: &StartOptions) -> anyhow::Result<Self> {
        let mut given = if options.socket_activation { activated()? } else { Vec::new() };
        let mut sockets = Self { https: Vec::new(), http: Vec::new(), admin: None };
        for address in &config.listen.https {
            sockets.https.push(take_or_bind(&mut given, *address, "listen.https").await?);
        }
        for address in &config.listen.http {
            sockets.http.push(take_or_bind(&mut given, *address, "listen.http").await?);
        }
        if let Some(address) = config.admin.listen {
            sockets.admin = Some(take_or_bind(&mut given, address, "admin.listen").await?);
        }
        if let Some((address, _)) = given.first() {
            bail!("systemd passes a socket on {address}, which is neither in listen.https nor in listen.http");
        }
        Ok(sockets)
    }

    pub fn addresses(&self) -> io::Result<Listeners> {
        let all = |sockets: &[TcpListener]| sockets.iter().map(TcpListener::local_addr).collect::<io::Result<_>>();
        let admin = self.admin.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(Listeners { https: all(&self.https)?, http: all(&self.http)?, admin })
    }

    pub fn serve(self, door: &Arc<Door>) -> JoinSet<()> {
        let mut acceptors = JoinSet::new();
        let roles =
            self.https.into_iter().map(|s| (s, Role::Https)).chain(self.http.into_iter().map(|s| (s, Role::Redirect)));
        for (socket, role) in roles {
            acceptors.spawn(accept(door.clone(), socket, role));
        }
        acceptors
    }
}

type Activated = Vec<(SocketAddr, std::net::TcpListener)>;

/// The sockets that systemd has bound for us, told apart by their addresses.
fn activated() -> anyhow::Result<Activated> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        let socket = passed.take_tcp_listener(index).context("systemd passes a socket that is not TCP")?;
        let socket = socket.context("systemd passes fewer sockets than it says")?;
        sockets.push((socket.local_addr()?, socket));
    }
    Ok(sockets)
}

async fn take_or_bind(given: &mut Activated, address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    if let Some(at) = given.iter().position(|(bound, _)| *bound == address) {
        let (_, socket) = given.swap_remove(at);
        socket.set_nonblocking(true)?;
        return Ok(TcpListener::from_std(socket)?);
    }
    bind(address).with_context(|| {
        let hint = if address.port() < 1024 { "; ports below 1024 need root or CAP_NET_BIND_SERVICE" } else { "" };
        format!("{key}: cannot listen on {address}{hint}")
    })
}

/// Longer than any burst of a home's devices; the kernel caps it at net.core.somaxconn.
const BACKLOG: u32 = 4096;

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        // 0.0.0.0 and [::] are two sockets here, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Inherited by every accepted connection: a client that vanished is noticed within minutes.
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG as i32)?;
    TcpListener::from_std(socket.into())
}

const KEEPALIVE: Duration = Duration::from_secs(60);
