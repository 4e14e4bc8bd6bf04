//! Dynamic updates (RFC 2136), signed with TSIG (RFC 8945), as BIND, Knot, PowerDNS and others take them.
//!
//! The server is asked which zone holds a name, then told the change, all by TCP and all signed: some servers choose
//! what they show by the key. An answer without a good signature of the same key is no answer.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::base::iana::{Class, Opcode, Rcode, TsigRcode};
use domain::base::message_builder::{AuthorityBuilder, PushError};
use domain::base::rdata::UnknownRecordData;
use domain::base::{MessageBuilder, Rtype, ToName, Ttl};
use domain::rdata::tsig::{Time48, Tsig};
use domain::rdata::{A, Aaaa, Txt};
use domain::tsig::{Algorithm, ClientTransaction, Key, KeyName, ValidationError};

use super::Addresses;
use super::resolver::{self, PATIENCE};
use super::transport::{self, DnsMessage, DnsName, NoAnswer};
use crate::config::{Rfc2136, TsigAlgorithm};

#[derive(Debug)]
pub(super) struct Updates {
    pub account: Rfc2136,
}

/// What the server, or the way to it, has against a change.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("the key's secret is not base64: copy it as it stands in the server's configuration")]
    Secret,
    #[error("the key's name `{name}` is not a name")]
    KeyName { name: String },
    #[error("{server} cannot be asked: {reason}")]
    NoAnswer { server: SocketAddr, reason: NoAnswer },
    #[error("{server} knows no zone that holds it; it says {said}")]
    NoZone { server: SocketAddr, said: &'static str },
    #[error("{server} does not know the key `{key}` with this algorithm (BADKEY): compare its name and `algorithm`")]
    BadKey { server: SocketAddr, key: String },
    #[error("{server} finds the signature of the key `{key}` wrong (BADSIG): compare its secret")]
    BadSignature { server: SocketAddr, key: String },
    #[error("the clocks differ by {seconds} s (BADTIME): set this machine's clock, or that of {server}")]
    BadTime { server: SocketAddr, seconds: u64 },
    #[error("the answer of {server} cannot be trusted: {reason}")]
    Untrusted { server: SocketAddr, reason: String },
    #[error(
        "{server} refuses (REFUSED): does its `update-policy` or `allow-update` name the key `{key}` for this name?"
    )]
    Refused { server: SocketAddr, key: String },
    #[error("{server} answers {said}{advice}")]
    Failed { server: SocketAddr, said: &'static str, advice: &'static str },
    #[error("the message does not fit: {0}")]
    TooLarge(#[from] PushError),
}

type Update = AuthorityBuilder<Vec<u8>>;

impl Updates {
    /// Adds the value beside others of the name.
    pub async fn set_txt(&self, record: &DnsName, value: &str) -> Result<(), UpdateError> {
        let txt = text(value)?;
        self.update(record, |update| update.push((record, Class::IN, TTL, &txt))).await
    }

    /// Takes exactly this value away (RFC 2136, section 2.5.4).
    pub async fn clear_txt(&self, record: &DnsName, value: &str) -> Result<(), UpdateError> {
        let txt = text(value)?;
        self.update(record, |update| update.push((record, Class::NONE, Ttl::ZERO, &txt))).await
    }

    /// Replaces all addresses of each family that is given.
    pub async fn point(&self, name: &DnsName, addresses: Addresses) -> Result<(), UpdateError> {
        if addresses == Addresses::default() {
            return Ok(());
        }
        self.update(name, |update| {
            if let Some(address) = addresses.ipv4 {
                clear(update, name, Rtype::A)?;
                update.push((name, Class::IN, TTL, A::new(address)))?;
            }
            if let Some(address) = addresses.ipv6 {
                clear(update, name, Rtype::AAAA)?;
                update.push((name, Class::IN, TTL, Aaaa::new(address)))?;
            }
            Ok(())
        })
        .await
    }

    async fn update(
        &self,
        name: &DnsName,
        change: impl FnOnce(&mut Update) -> Result<(), PushError>,
    ) -> Result<(), UpdateError> {
        let key = self.key()?;
        let zone = self.zone(&key, name).await?;
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_random_id();
        message.header_mut().set_opcode(Opcode::UPDATE);
        let mut message = message.question();
        message.push((&zone, Rtype::SOA))?;
        let mut message = message.authority();
        change(&mut message)?;
        let answer = self.exchange(&key, message.additional()).await?;
        match answer.header().rcode() {
            Rcode::NOERROR => Ok(()),
            code => Err(self.failure(&key, code)),
        }
    }

    /// The server's own zone that holds `name`.
    async fn zone(&self, key: &Key, name: &DnsName) -> Result<DnsName, UpdateError> {
        let mut said = "";
        for above in name.iter_suffixes().filter(|above| !above.is_root()) {
            let above: DnsName = above.to_name();
            let mut message = MessageBuilder::new_vec();
            message.header_mut().set_random_id();
            let mut message = message.question();
            message.push((&above, Rtype::SOA))?;
            let answer = self.exchange(key, message.additional()).await?;
            if let Some(zone) = resolver::soa_owner(&answer, &above) {
                return Ok(zone);
            }
            said = resolver::words(answer.header().rcode());
        }
        Err(UpdateError::NoZone { server: self.account.server, said })
    }

    /// Signs, sends, and returns the answer if its signature is good.
    async fn exchange(
        &self,
        key: &Key,
        mut message: domain::base::message_builder::AdditionalBuilder<Vec<u8>>,
    ) -> Result<DnsMessage, UpdateError> {
        let server = self.account.server;
        let transaction = ClientTransaction::request(key, &mut message, now())?;
        let answer = transport::by_tcp(server, &message.into_message(), PATIENCE).await;
        let mut answer = answer.map_err(|reason| UpdateError::NoAnswer { server, reason })?;
        match transaction.answer(&mut answer, now()) {
            Ok(()) => Ok(answer),
            Err(error) => Err(self.distrust(key, &answer, error)),
        }
    }

    fn distrust(&self, key: &Key, answer: &DnsMessage, error: ValidationError) -> UpdateError {
        let (server, key_name) = (self.account.server, key.name().to_string());
        // domain 0.12 finds the signature of every BADTIME wrong: it digests eight bytes of the server's time, RFC 8945
        // six. The answer is not believed either way, so its reason may be told.
        if let Some(seconds) = clock_difference(answer) {
            return UpdateError::BadTime { server, seconds };
        }
        match error {
            ValidationError::ServerBadKey => UpdateError::BadKey { server, key: key_name },
            ValidationError::ServerBadSig => UpdateError::BadSignature { server, key: key_name },
            // Who has not looked at the signature does not sign: the refusal itself is what matters.
            ValidationError::ServerUnsigned if answer.header().rcode() != Rcode::NOERROR => {
                self.failure(key, answer.header().rcode())
            }
            other => UpdateError::Untrusted { server, reason: other.to_string() },
        }
    }

    fn failure(&self, key: &Key, code: Rcode) -> UpdateError {
        let server = self.account.server;
        let advice = match code {
            Rcode::REFUSED => return UpdateError::Refused { server, key: key.name().to_string() },
            Rcode::NOTAUTH => ": name the zone's primary server in `server`",
            Rcode::SERVFAIL => ": may it write to the zone's file and journal?",
            Rcode::NOTIMP => ": dynamic updates are switched off there",
            _ => "",
        };
        UpdateError::Failed { server, said: resolver::words(code), advice }
    }

    fn key(&self) -> Result<Key, UpdateError> {
        let Rfc2136 { key_name, algorithm, key, .. } = &self.account;
        let algorithm = match algorithm {
            TsigAlgorithm::HmacSha256 => Algorithm::Sha256,
            TsigAlgorithm::HmacSha384 => Algorithm::Sha384,
            TsigAlgorithm::HmacSha512 => Algorithm::Sha512,
        };
        let secret = STANDARD.decode(key.expose().trim()).map_err(|_| UpdateError::Secret)?;
        let no_name = || UpdateError::KeyName { name: key_name.clone() };
        let name: KeyName = key_name.parse().map_err(|_| no_name())?;
        // Only lengths of signatures can be wrong, and none is given.
        Key::new(algorithm, &secret, name, None, None).map_err(|_| no_name())
    }
}

/// How far apart the clocks are, where that is why a request was turned down.
fn clock_difference(answer: &DnsMessage) -> Option<u64> {
    let mut signatures = answer.additional().ok()?.limit_to::<Tsig<_, _>>().flatten();
    let signature = signatures.find(|signature| signature.data().error() == TsigRcode::BADTIME)?;
    let theirs = signature.data().other_time()?;
    Some(u64::from(theirs).abs_diff(u64::from(signature.data().time_signed())))
}

/// Deletes all of a name's records of a kind (RFC 2136, section 2.5.2).
fn clear(update: &mut Update, name: &DnsName, kind: Rtype) -> Result<(), PushError> {
    let nothing = UnknownRecordData::from_octets(kind, [0_u8; 0]).map_err(|_| PushError::ShortBuf)?;
    update.push((name, Class::ANY, Ttl::ZERO, nothing))
}

fn text(value: &str) -> Result<Txt<Vec<u8>>, PushError> {
    Txt::build_from_slice(value.as_bytes()).map_err(|_| PushError::ShortBuf)
}

/// TSIG counts seconds of the wall clock.
fn now() -> Time48 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Time48::from_u64(since.as_secs() & TIME48_MAX)
}

const TIME48_MAX: u64 = (1 << 48) - 1;
/// Challenges are short, and so may be an address.
const TTL: Ttl = Ttl::from_secs(60);

#[cfg(test)]
mod tests;
