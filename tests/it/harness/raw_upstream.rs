//! An upstream that the test plays itself, byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Client, within};

pub struct RawUpstream {
    pub address: SocketAddr,
    incoming: UnboundedReceiver<TcpStream>,
    accepted: Arc<AtomicUsize>,
}

impl RawUpstream {
    pub async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, incoming) = unbounded_channel();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                if sender.send(socket).is_err() {
                    return;
                }
            }
        });
        Self { address, incoming, accepted }
    }

    /// The gate's next connection. What it reads and writes is what a client does, the other way round.
    pub async fn accept(&mut self) -> Client {
        let socket = within("a connection to the upstream", self.incoming.recv()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Client::new(socket)
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// No connection has been made. Asks by a connection of its own: sockets are accepted in order.
    pub async fn is_untouched(&mut self) {
        let own = TcpStream::connect(self.address).await.unwrap().local_addr().unwrap();
        let first = within("our own connection", self.incoming.recv()).await.unwrap();
        assert_eq!(first.peer_addr().unwrap(), own, "something reached the upstream");
    }
}
