//! Everything the status page and `hearthgate top` show, as one picture: `GET /overview`.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{BanList, CertificateList, Refusal, Status};
use crate::history::Hour;

/// A picture of this moment and of the hour before it. Bounded by the configuration, whatever traffic comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    #[serde(with = "super::rfc3339")]
    pub at: SystemTime,
    pub status: Status,
    /// Why strangers should not be sent here now.
    pub unready: Option<String>,
    pub certificates: CertificateList,
    /// The newest, at most [`BANS_SHOWN`].
    pub bans: BanList,
    /// The newest first.
    pub refusals: Vec<RecentRefusal>,
    /// Refusals that came too fast to be listed, since the start.
    pub refusals_passed_over: u64,
    /// Devices that have logged in and are remembered.
    pub known_devices: u64,
    /// Accounts on which strangers have to wait.
    pub throttled_accounts: u64,
    pub hour: Hour,
}

/// One request that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentRefusal {
    pub client: IpAddr,
    #[serde(flatten)]
    pub refusal: Refusal,
}

/// Bans in one picture; `hearthgate bans list` shows all.
pub const BANS_SHOWN: usize = 100;
