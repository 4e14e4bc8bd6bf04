//! Times in JSON as RFC 3339 in UTC with whole seconds, for `#[serde(with)]`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serializer};

/// Times that RFC 3339 cannot express (an operator's certificate may hold one) are moved to the nearest it can.
pub(super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let time = (*time).clamp(UNIX_EPOCH, UNIX_EPOCH + LAST_SECOND);
    serializer.collect_str(&humantime::format_rfc3339_seconds(time))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)
}

/// The end of the year 9999.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// The same for times that there may not be.
pub(super) mod optional {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Time(#[serde(with = "super")] SystemTime);

    pub(in crate::admin) fn serialize<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
        time.map(Time).serialize(to)
    }

    pub(in crate::admin) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<Time>::deserialize(from)?.map(|Time(time)| time))
    }
}
