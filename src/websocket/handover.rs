//! Getting both raw streams of an upgraded request back from the proxy.
//!
//! While an upgrade request is on its way, each side is a wrapper of ours. The upstream's wrapper shows the proxy the
//! head of the answer and, when that is a 101, not one byte more. When the client's wrapper has flushed the 101, both
//! report the end of their stream; the request then ends in the ordinary way, all phases included, and the wrappers
//! put the streams in here when they are dropped.

use std::task::Waker;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

/// Any byte stream that goes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Duplex for T {}

/// A connection without any buffer of ours.
pub type Io = Box<dyn Duplex>;

/// Shared by the two wrappers of one upgrade request and its connection loop.
#[derive(Default)]
pub struct Handover(Mutex<State>);

#[derive(Default)]
struct State {
    /// The proxy has been given the upstream's 101.
    switched: bool,
    /// The 101 is on its way to the client: from now on the proxy sees only ends of stream.
    done: bool,
    /// Whoever waits in a read that will never have data for the proxy.
    readers: Vec<Waker>,
    upstream: Option<(Io, BytesMut)>,
}

impl Handover {
    /// The upstream's side has shown the proxy a 101.
    pub fn switched(&self) {
        self.0.lock().switched = true;
    }

    /// Whether a 101 was shown to the proxy.
    pub fn is_switched(&self) -> bool {
        self.0.lock().switched
    }

    /// The client's side has flushed what followed the 101 of the upstream, that is our 101.
    pub fn complete(&self) {
        let mut state = self.0.lock();
        state.done = true;
        state.readers.drain(..).for_each(Waker::wake);
    }

    /// Whether the proxy is to see only ends of stream.
    pub fn is_done(&self) -> bool {
        self.0.lock().done
    }

    /// Remembers a reader to wake at [`complete`](Self::complete); wakes it at once if that has happened.
    pub fn wait(&self, waker: &Waker) {
        let mut state = self.0.lock();
        if state.done {
            waker.wake_by_ref();
        } else if !state.readers.iter().any(|reader| reader.will_wake(waker)) {
            state.readers.push(waker.clone());
        }
    }

    /// Gives the upstream's stream back, with the bytes that came behind the 101.
    pub fn return_upstream(&self, io: Io, behind: BytesMut) {
        self.0.lock().upstream = Some((io, behind));
    }

    /// The upstream's stream, if the answer was a 101 and the proxy has let go of it.
    pub fn take_upstream(&self) -> Option<(Io, BytesMut)> {
        let mut state = self.0.lock();
        if state.done { state.upstream.take() } else { None }
    }
}
