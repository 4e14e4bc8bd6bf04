//! Cloudflare's API, version 4: zones by their name, records by an identifier of Cloudflare's.
//!
//! The token goes in a field of the request, and nowhere else. Only records that were made here are taken away; of one
//! that exists only the content is changed, so that it stays proxied, or not, as the operator has it.

use http::{Method, Request, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Addresses, error};
use crate::config::Secret;
use crate::http_client::{HttpClient, HttpError};

#[derive(Debug)]
pub(super) struct Cloudflare {
    pub http: HttpClient,
    pub token: Secret,
    pub url: String,
}

/// A TXT record that was made here.
#[derive(Debug)]
pub(super) struct RecordId {
    zone: String,
    record: String,
}

/// What Cloudflare, or the way to it, has against a change.
#[derive(Debug, thiserror::Error)]
pub enum CloudflareError {
    #[error("no zone of Cloudflare's holds it: does the token have Zone:Zone:Read for it?")]
    NoZone,
    #[error("Cloudflare says {said} (status {status})")]
    Refused { status: u16, said: String, codes: Vec<u64> },
    #[error(
        "Cloudflare does not take the token: {said} (status {status}); it needs Zone:DNS:Edit and Zone:Zone:Read for the \
         zone"
    )]
    Token { status: u16, said: String },
    #[error("Cloudflare answers with status {status} and something else than its API does: try again later")]
    Unexpected { status: u16 },
    #[error("it has {count} {kind} records: leave one, which will then be kept up to date")]
    Several { kind: &'static str, count: usize },
    #[error("Cloudflare: {0}")]
    Http(#[from] HttpError),
}

/// Deletions are documented with a result only.
#[derive(Deserialize)]
struct Answer {
    #[serde(default = "yes")]
    success: bool,
    #[serde(default)]
    errors: Vec<Complaint>,
    #[serde(default)]
    result: Value,
}

#[derive(Deserialize)]
struct Complaint {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Zone {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Record {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    name: String,
    content: String,
}

impl Cloudflare {
    pub async fn set_txt(&self, record: &str, value: &str) -> Result<RecordId, CloudflareError> {
        let zone = self.zone(record).await?;
        // Cloudflare asks for TXT content as in a zone file, in quotes, and warns where they are missing.
        let content = format!("\"{value}\"");
        let made = json!({ "type": "TXT", "name": record, "content": content, "ttl": TTL });
        match self.send::<Record>(Method::POST, &format!("/zones/{zone}/dns_records"), Some(&made)).await {
            Ok(made) => Ok(RecordId { zone, record: made.id }),
            Err(error) if error.is_duplicate() => {
                self.left_behind(zone, record, value).await.and_then(|id| id.ok_or(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Without an identifier, since Cloudflare's answer has not arrived, it goes by the content.
    pub async fn clear_txt(&self, record: &str, value: &str, id: Option<RecordId>) -> Result<(), CloudflareError> {
        let id = match id {
            Some(id) => Some(id),
            None => self.left_behind(self.zone(record).await?, record, value).await?,
        };
        let Some(id) = id else { return Ok(()) };
        let path = format!("/zones/{}/dns_records/{}", id.zone, id.record);
        match self.send::<Value>(Method::DELETE, &path, None).await {
            Ok(_) => Ok(()),
            // Somebody was faster.
            Err(CloudflareError::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn point(&self, name: &str, addresses: Addresses) -> Result<(), CloudflareError> {
        let ipv4 = addresses.ipv4.map(|address| ("A", address.to_string()));
        let ipv6 = addresses.ipv6.map(|address| ("AAAA", address.to_string()));
        let wanted: Vec<_> = [ipv4, ipv6].into_iter().flatten().collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let zone = self.zone(name).await?;
        for (kind, content) in wanted {
            self.set_address(&zone, name, kind, &content).await?;
        }
        Ok(())
    }

    async fn set_address(
        &self,
        zone: &str,
        name: &str,
        kind: &'static str,
        content: &str,
    ) -> Result<(), CloudflareError> {
        let records = format!("/zones/{zone}/dns_records");
        match self.records(zone, name, kind).await?.as_slice() {
            [] => {
                let made = json!({ "type": kind, "name": name, "content": content, "ttl": TTL, "proxied": false });
                self.send::<Record>(Method::POST, &records, Some(&made)).await.map(drop)
            }
            [one] if one.content == content => Ok(()),
            [one] => {
                let (path, change) = (format!("{records}/{}", one.id), json!({ "content": content }));
                self.send::<Record>(Method::PATCH, &path, Some(&change)).await.map(drop)
            }
            several => Err(CloudflareError::Several { kind, count: several.len() }),
        }
    }

    /// The same record, left from a run that did not come to its end: an authority asks for the same value again.
    async fn left_behind(&self, zone: String, name: &str, value: &str) -> Result<Option<RecordId>, CloudflareError> {
        let records = self.records(&zone, name, "TXT").await?;
        let same = records.into_iter().find(|record| record.content.trim_matches('"') == value);
        Ok(same.map(|record| RecordId { zone, record: record.id }))
    }

    async fn records(&self, zone: &str, name: &str, kind: &str) -> Result<Vec<Record>, CloudflareError> {
        let path = format!("/zones/{zone}/dns_records?{}", query(&[("type", kind), ("name", name)]));
        let mut records: Vec<Record> = self.send(Method::GET, &path, None).await?;
        records.retain(|record| record.kind == kind && record.name.eq_ignore_ascii_case(name));
        Ok(records)
    }

    /// The identifier of the zone that holds `name`: that of its longest suffix.
    async fn zone(&self, name: &str) -> Result<String, CloudflareError> {
        for suffix in zone_names(name) {
            let zones: Vec<Zone> =
                self.send(Method::GET, &format!("/zones?{}", query(&[("name", suffix)])), None).await?;
            if let Some(zone) = zones.into_iter().find(|zone| zone.name.eq_ignore_ascii_case(suffix)) {
                return Ok(zone.id);
            }
        }
        Err(CloudflareError::NoZone)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, CloudflareError> {
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| HttpError::Broken("a token that no request can carry: look for blanks in it".to_owned()))?;
        let answer = self.http.send(request).await?;
        let status = answer.status();
        let unexpected = CloudflareError::Unexpected { status: status.as_u16() };
        let Ok(answer) = serde_json::from_slice::<Answer>(answer.body()) else { return Err(unexpected) };
        if !answer.success {
            return Err(self.complaint(status.as_u16(), &answer.errors));
        }
        if !status.is_success() {
            return Err(unexpected);
        }
        serde_json::from_value(answer.result).map_err(|_| unexpected)
    }

    fn complaint(&self, status: u16, errors: &[Complaint]) -> CloudflareError {
        let said = errors.iter().take(MAX_COMPLAINTS).map(|error| {
            // An answer that repeats the request's fields would repeat the token.
            let message = error.message.replace(self.token.expose(), "***");
            format!("{} {}", error.code, error::quoted(&message))
        });
        let said = said.collect::<Vec<_>>().join(", ");
        let codes: Vec<_> = errors.iter().map(|error| error.code).collect();
        let is_token = matches!(status, 401 | 403) || codes.iter().any(|code| TOKEN_CODES.contains(code));
        if is_token {
            CloudflareError::Token { status, said }
        } else {
            CloudflareError::Refused { status, said, codes }
        }
    }
}

impl CloudflareError {
    fn is_duplicate(&self) -> bool {
        matches!(self, Self::Refused { codes, .. } if codes.iter().any(|code| DUPLICATE_CODES.contains(code)))
    }
}

/// What of `name` may be a zone, the longest first: two labels at least, no `_acme-challenge`.
fn zone_names(name: &str) -> impl Iterator<Item = &str> {
    let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
    let names: Vec<_> = starts.map(|start| &name[start..]).collect();
    let names = names.into_iter().rev().skip(1).take(MAX_ZONE_NAMES).collect::<Vec<_>>();
    names.into_iter().rev().filter(|name| !name.starts_with('_'))
}

fn yes() -> bool {
    true
}

fn query(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// The least that Cloudflare takes of everybody, in seconds.
const TTL: u32 = 60;
/// A zone of Cloudflare's is a registered name, or a few labels below one.
const MAX_ZONE_NAMES: usize = 8;
const MAX_COMPLAINTS: usize = 3;
/// A bad `Authorization` field; an unknown token; one that may not do this.
const TOKEN_CODES: [u64; 4] = [6003, 9106, 9109, 10000];
/// "Record already exists", "An identical record already exists".
const DUPLICATE_CODES: [u64; 2] = [81057, 81058];

#[cfg(test)]
mod tests;
