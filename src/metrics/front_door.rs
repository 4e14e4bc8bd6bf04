//! What is counted where clients arrive: connections, handshakes, WebSockets.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Families, Open, counter, counter_vec, gauge, int_gauge_vec};
use crate::denial::Denial;

/// Handles to the front door's metrics.
#[derive(Debug)]
pub struct FrontDoorMetrics {
    connections_open: IntGaugeVec,
    connections: IntCounterVec,
    handshakes: IntCounterVec,
    /// Accept calls that failed, for instance for want of file descriptors.
    pub accept_errors: IntCounter,
    websockets_open: IntGauge,
    websockets_opened: IntCounter,
    websockets_closed: IntCounterVec,
    websocket_bytes_up: IntCounter,
    websocket_bytes_down: IntCounter,
}

/// How a TLS handshake ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Full,
    /// On a ticket from an earlier one.
    Resumed,
}

impl Handshake {
    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
        }
    }
}

/// The version of a handshake that did not get as far as to one.
const NO_VERSION: &str = "none";
const VERSIONS: [&str; 2] = ["1.2", "1.3"];
const FAILED_HANDSHAKES: [Denial; 4] =
    [Denial::TlsTimeout, Denial::TlsName, Denial::TlsHandshake, Denial::ClientCertificate];

/// Connections of one listener.
#[derive(Debug, Clone)]
pub struct Connections {
    open: IntGauge,
    accepted: IntCounter,
    refused: IntCounter,
}

impl FrontDoorMetrics {
    pub(super) fn new(r: &Families) -> Self {
        let websocket_bytes =
            counter_vec(r, "websocket_bytes_total", "WebSocket bytes relayed, while they are open.", &["direction"]);
        let metrics = Self {
            connections_open: int_gauge_vec(r, "connections_open", "Client connections open now.", &["listener"]),
            connections: counter_vec(r, "connections_total", "Client connections that came.", &["listener", "outcome"]),
            handshakes: counter_vec(r, "tls_handshakes_total", "TLS handshakes that ended.", &["version", "outcome"]),
            accept_errors: counter(r, "accept_errors_total", "Accept calls that failed."),
            websockets_open: gauge(r, "websockets_open", "WebSockets open now."),
            websockets_opened: counter(r, "websockets_opened_total", "WebSockets opened."),
            websockets_closed: counter_vec(r, "websockets_closed_total", "WebSockets closed.", &["cause"]),
            websocket_bytes_up: websocket_bytes.with_label_values(&["up"]),
            websocket_bytes_down: websocket_bytes.with_label_values(&["down"]),
        };
        for outcome in [Handshake::Full, Handshake::Resumed] {
            for version in VERSIONS {
                metrics.handshakes.with_label_values(&[version, outcome.as_str()]);
            }
        }
        for denial in FAILED_HANDSHAKES {
            metrics.handshakes.with_label_values(&[NO_VERSION, denial.reason()]);
        }
        metrics
    }

    /// The connections of one listener; `listener` is from a closed set.
    pub fn connections(&self, listener: &'static str) -> Connections {
        Connections {
            open: self.connections_open.with_label_values(&[listener]),
            accepted: self.connections.with_label_values(&[listener, "accepted"]),
            refused: self.connections.with_label_values(&[listener, "refused"]),
        }
    }

    /// A handshake is done.
    pub fn shaken_hands(&self, is_tls_1_3: bool, outcome: Handshake) {
        let version = if is_tls_1_3 { "1.3" } else { "1.2" };
        self.handshakes.with_label_values(&[version, outcome.as_str()]).inc();
    }

    /// A handshake has failed.
    pub fn handshake_failed(&self, denial: Denial) {
        self.handshakes.with_label_values(&[NO_VERSION, denial.reason()]).inc();
    }

    /// The causes for which WebSockets may end begin at 0; all from a closed set.
    pub fn websockets_may_end(&self, causes: impl Iterator<Item = &'static str>) {
        causes.for_each(|cause| drop(self.websockets_closed.with_label_values(&[cause])));
    }

    /// WebSockets open now.
    pub fn websockets_open(&self) -> u64 {
        self.websockets_open.get().try_into().unwrap_or(0)
    }

    /// A WebSocket has been opened.
    pub fn websocket_opened(&self) -> Open {
        self.websockets_opened.inc();
        Open::new(&self.websockets_open)
    }

    /// A WebSocket has ended; `cause` is from a closed set.
    pub fn websocket_closed(&self, cause: &'static str) {
        self.websockets_closed.with_label_values(&[cause]).inc();
    }

    /// So many bytes have been relayed.
    pub fn websocket_moved(&self, up: u64, down: u64) {
        self.websocket_bytes_up.inc_by(up);
        self.websocket_bytes_down.inc_by(down);
    }
}

impl Connections {
    /// A connection has been accepted by the system: open until the guard object is dropped.
    pub fn came(&self) -> Open {
        Open::new(&self.open)
    }

    /// It is served, or at least told why not.
    pub fn accepted(&self) {
        self.accepted.inc();
    }

    /// It is closed unheard.
    pub fn refused(&self) {
        self.refused.inc();
    }
}
