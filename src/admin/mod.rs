//! The gate's back door for its operator: metrics, health and the status page over loopback TCP; reload, status,
//! bans and certificates over a Unix socket.
//!
//! [`AdminServer`] answers, [`Client`] asks on behalf of the command line, and [`Control`] is what
//! the running gate lends to the server. Nothing here changes anything but through `Control`, and
//! only the Unix socket, which root and the gate's own user alone can open, reaches all of it. Over TCP there is the
//! status page, which shows what `overview` says, and whose one form lifts a ban.

mod access;
mod answer;
mod certificates;
mod changes;
mod client;
mod findings;
#[cfg(test)]
pub(crate) mod fixtures;
mod guard;
mod overview;
mod page;
mod rfc3339;
mod server;
mod socket;
mod status;
mod status_page;

use std::net::IpAddr;

pub use certificates::{
    AcmeError, AcmeReport, AwaitedAttempt, CertificateList, CertificateReport, CertificateSource, Renew, Renewal,
    ServedCertificate,
};
pub use client::{Client, ClientError};
pub use findings::{Finding, Level};
pub use guard::{
    BanCause, BanList, BanReport, BanTarget, Explanation, FailureCount, MOST_BANS, NewBan, RateLimitState, Refusal,
    Removal, Standing, address,
};
pub use overview::{BANS_SHOWN, Overview, RecentRefusal};
pub use server::AdminServer;
pub use status::{
    Certificate, DynamicDnsStatus, DynamicName, DynamicNameFailure, HostStatus, LastReload, Listeners, ReloadOutcome,
    ReloadReport, Status,
};

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

    /// The bans in force: how many, and the newest `most` of them.
    fn bans(&self, most: usize) -> BanList;

    /// Bans a network from now on, on open connections as well; a ban of the same network is replaced.
    ///
    /// # Errors
    ///
    /// One line that says why it cannot be banned.
    fn add_ban(&self, ban: NewBan) -> Result<BanReport, String>;

    /// Lifts bans; the networks that were banned.
    fn remove_bans(&self, target: BanTarget) -> Removal;

    /// The same with the hour before it.
    fn overview(&self) -> Overview;

    /// The certificates of all hosts.
    fn certificates(&self) -> CertificateList;

    /// Has an attempt made now for the certificate that is called `name`, or for all that an authority issues. Does not
    /// wait for its end.
    ///
    /// # Errors
    ///
    /// One line that says why there is none to make.
    fn renew(&self, name: Option<&str>) -> Result<Renewal, String>;

    /// What is known of a client, `address` being in canonical form.
    fn explain(&self, address: IpAddr) -> Explanation;
}
