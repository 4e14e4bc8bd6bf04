//! The gate's back door for its operator: metrics and health over loopback TCP, reload and status
//! over a Unix socket.
//!
//! [`AdminServer`] answers, [`Client`] asks on behalf of the command line, and [`Control`] is what
//! the running gate lends to the server. Nothing here changes anything but through `Control`, and
//! only the Unix socket, which root and the gate's own user alone can open, reaches its `reload`.

mod access;
mod answer;
mod client;
mod rfc3339;
mod server;
mod socket;
mod status;

pub use client::{Client, ClientError};
pub use server::AdminServer;
pub use status::{Certificate, HostStatus, LastReload, Listeners, ReloadOutcome, ReloadReport, Status};

/// What the running gate lets its operator see and do.
#[async_trait::async_trait]
pub trait Control: Send + Sync + 'static {
    /// Reads the configuration again and takes it over whole or not at all.
    async fn reload(&self) -> ReloadReport;

    /// A picture of this moment.
    fn status(&self) -> Status;

    /// # Errors
    ///
    /// One line that says why strangers should not be sent here now.
    fn ready(&self) -> Result<(), String>;
}
