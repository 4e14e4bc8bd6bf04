//! Asking who knows the home's address: services on the internet, and the interfaces of this machine.

use std::fmt;
use std::io;
use std::net::IpAddr;

use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;

use super::interface::{self, Held};
use super::poll::{Outcome, Poll};
use super::public::{NotPublic, public};
use crate::config::AddressSource;
use crate::http_client::{self, HttpClient, HttpError};

/// The longest answer that can be an address: blanks and a line end around 39 signs.
const LONGEST: usize = 64;
/// An address in use stays until another is meant to stay this many times longer: two prefixes that are renewed in turn
/// do not make the record swing.
const LONGER: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

/// Asks over one family only: a service tells the address it was asked from.
pub(super) struct Clients {
    ipv4: HttpClient,
    ipv6: HttpClient,
}

/// Why a source is of no use now.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("answers {0}")]
    Status(StatusCode),
    #[error("its URL cannot be asked")]
    BadUrl,
    #[error("the answer is not an address in plain text")]
    NoText,
    #[error("the answer is {0}, which is not {1}")]
    OtherFamily(IpAddr, Family),
    #[error(transparent)]
    NotPublic(#[from] NotPublic),
    #[error("this machine has no such interface")]
    NoInterface,
    #[error("it has no {0} address that is meant to stay")]
    NoAddress(Family),
    #[error("cannot ask the kernel for its addresses: {0}")]
    Kernel(#[from] io::Error),
}

/// Why no address of a family is known now; a sentence for the operator.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    #[error("the sources of the {family} address disagree, what is published stays: {}", .told.join(", "))]
    Disputed { family: Family, told: Vec<String> },
    #[error("no public {family} address found, what is published stays: {}{}", .why.join("; "), .family.none_at_all())]
    Silence { family: Family, why: Vec<String> },
}

impl Clients {
    /// Reads the system's authorities: not for an async thread.
    pub fn new() -> Result<Self, String> {
        let client = |family| HttpClient::new(None, family).map_err(|error| error.to_string());
        Ok(Self { ipv4: client(http_client::Family::Ipv4)?, ipv6: client(http_client::Family::Ipv6)? })
    }

    /// Asks `sources` in turn until it is clear what the address is.
    pub async fn learn(
        &self,
        sources: &[AddressSource],
        family: Family,
        believed: Option<IpAddr>,
    ) -> Result<IpAddr, Unknown> {
        let mut poll = Poll::new(believed);
        let (mut told, mut why) = (Vec::new(), Vec::new());
        for source in sources {
            match self.ask(source, family, believed).await {
                Ok(address) if matches!(source, AddressSource::Interface(_)) || poll.hear(address) => {
                    return Ok(address);
                }
                Ok(address) => told.push(format!("{} says {address}", Named(source))),
                Err(error) => why.push(format!("{}: {error}", Named(source))),
            }
        }
        match poll.end() {
            Outcome::Address(address) => Ok(address),
            Outcome::Disputed => Err(Unknown::Disputed { family, told }),
            Outcome::Silence => Err(Unknown::Silence { family, why }),
        }
    }

    async fn ask(
        &self,
        source: &AddressSource,
        family: Family,
        believed: Option<IpAddr>,
    ) -> Result<IpAddr, SourceError> {
        match source {
            AddressSource::Url(url) => self.fetch(url, family).await,
            AddressSource::Interface(name) => {
                let name = name.clone();
                let held = tokio::task::spawn_blocking(move || interface::held_by(&name)).await;
                let held = held.map_err(io::Error::other)??.ok_or(SourceError::NoInterface)?;
                choose(&held, family, believed)
            }
        }
    }

    async fn fetch(&self, url: &str, family: Family) -> Result<IpAddr, SourceError> {
        // A connection that is kept would go on to tell the address that it was made from.
        let request = Request::get(url).header(header::CONNECTION, "close").header(header::USER_AGENT, USER_AGENT);
        let request = request.body(Full::default()).map_err(|_| SourceError::BadUrl)?;
        let client = match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        };
        let answer = client.send(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(SourceError::Status(answer.status()));
        }
        read(answer.body(), family)
    }
}

/// The address that a service has answered with.
fn read(body: &[u8], family: Family) -> Result<IpAddr, SourceError> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= LONGEST).ok_or(SourceError::NoText)?;
    let address: IpAddr = text.trim().parse().map_err(|_| SourceError::NoText)?;
    if family.is_of(address) { Ok(public(address)?) } else { Err(SourceError::OtherFamily(address, family)) }
}

/// Of an interface's addresses the one that is meant to stay longest, or the one in use as long as it is nearly as good.
fn choose(held: &[Held], family: Family, believed: Option<IpAddr>) -> Result<IpAddr, SourceError> {
    let staying: Vec<_> = held.iter().filter(|held| family.is_of(held.address) && !held.is_passing).collect();
    let public_ones: Vec<_> = staying.iter().copied().filter(|held| public(held.address).is_ok()).collect();
    // The smallest of equals, since the kernel's order is none.
    let best =
        public_ones.iter().max_by_key(|held| (!held.is_secondary, held.preferred, std::cmp::Reverse(held.address)));
    let Some(best) = best else {
        let why = staying.iter().filter_map(|held| public(held.address).err());
        // A link-local address is always there and says nothing.
        let why = why.min_by_key(|why| matches!(why, NotPublic::Unreachable(_)));
        return Err(why.map_or(SourceError::NoAddress(family), SourceError::NotPublic));
    };
    let in_use = public_ones.iter().find(|held| Some(held.address) == believed);
    let stays = in_use.filter(|held| held.preferred.saturating_mul(LONGER) > best.preferred);
    Ok(stays.unwrap_or(best).address)
}

impl Family {
    /// What to do where the family is missing for good; every home has IPv4, be it a shared one.
    fn none_at_all(self) -> &'static str {
        match self {
            Self::Ipv4 => "",
            Self::Ipv6 => " (if this home has no IPv6, `dynamic_dns.ipv6: []` ends the search)",
        }
    }

    fn is_of(self, address: IpAddr) -> bool {
        match self {
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// A source as logs call it: of a URL the host only, since some have a key in the path.
struct Named<'a>(&'a AddressSource);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            AddressSource::Url(url) => {
                let uri = url.parse::<Uri>().ok();
                f.write_str(uri.as_ref().and_then(Uri::host).unwrap_or("a URL"))
            }
            AddressSource::Interface(name) => write!(f, "interface {name}"),
        }
    }
}

const USER_AGENT: &str = concat!("hearthgate/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str, family: Family) -> Result<String, String> {
        read(body.as_bytes(), family).map(|address| address.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_answer_is_an_address_and_nothing_else() {
        for body in ["203.0.113.7", "203.0.113.7\n", "  203.0.113.7\r\n"] {
            assert_eq!(text(body, Family::Ipv4).as_deref(), Ok("203.0.113.7"), "{body:?}");
        }
        assert_eq!(text("2001:db8::7\n", Family::Ipv6).as_deref(), Ok("2001:db8::7"));
        let padded = format!("203.0.113.7{}", " ".repeat(LONGEST));
        for body in ["", "<html>", "203.0.113.7 203.0.113.8", "{\"ip\":\"203.0.113.7\"}", "203.0.113.07", &padded] {
            assert_eq!(text(body, Family::Ipv4), Err(SourceError::NoText.to_string()), "{body:?}");
        }
        assert!(matches!(read(b"\xff", Family::Ipv4), Err(SourceError::NoText)));
    }

    #[test]
    fn the_other_family_and_private_addresses_are_refused() {
        assert!(text("203.0.113.7", Family::Ipv6).unwrap_err().contains("not IPv6"));
        assert!(text("2001:db8::7", Family::Ipv4).unwrap_err().contains("not IPv4"));
        assert!(text("100.64.0.1", Family::Ipv4).unwrap_err().contains("carrier NAT"));
        assert!(text("::ffff:203.0.113.7", Family::Ipv6).is_err());
    }

    fn held(address: &str, preferred: u32) -> Held {
        Held { address: address.parse().unwrap(), is_passing: false, is_secondary: false, preferred }
    }

    fn chosen(held: &[Held], family: Family, believed: Option<&str>) -> String {
        let believed = believed.map(|address| address.parse().unwrap());
        choose(held, family, believed).map_or_else(|error| error.to_string(), |address| address.to_string())
    }

    #[test]
    fn the_address_that_stays_longest_is_chosen() {
        let passing = Held { is_passing: true, ..held("2001:db8::99", u32::MAX) };
        let mut all = vec![
            held("fe80::1", u32::MAX),
            held("fd00::1", u32::MAX),
            held("2001:db8::1", 1800),
            passing,
            held("203.0.113.7", 60),
        ];
        assert_eq!(chosen(&all, Family::Ipv6, None), "2001:db8::1");
        assert_eq!(chosen(&all, Family::Ipv4, None), "203.0.113.7");
        all.push(held("2001:db8::2", 3600));
        assert_eq!(chosen(&all, Family::Ipv6, None), "2001:db8::2");
        let second = Held { is_secondary: true, ..held("203.0.113.1", u32::MAX) };
        assert_eq!(chosen(&[second, held("203.0.113.7", 60)], Family::Ipv4, None), "203.0.113.7");
    }

    #[test]
    fn an_address_in_use_stays_until_another_is_far_better() {
        let two = |other| [held("2001:db8::1", 1800), held("2001:db8:1::1", other)];
        assert_eq!(chosen(&two(7199), Family::Ipv6, Some("2001:db8::1")), "2001:db8::1");
        assert_eq!(chosen(&two(7200), Family::Ipv6, Some("2001:db8::1")), "2001:db8:1::1");
        assert_eq!(chosen(&two(1800), Family::Ipv6, Some("2001:db8:1::1")), "2001:db8:1::1");
        assert_eq!(chosen(&two(1800), Family::Ipv6, Some("2001:db8:9::1")), "2001:db8::1");
    }

    #[test]
    fn an_interface_without_public_address_says_why() {
        let home = [held("192.168.1.2", u32::MAX), held("fe80::1", u32::MAX), held("fd00::1", u32::MAX)];
        assert!(chosen(&home, Family::Ipv4, None).contains("192.168.1.2 is a private address"));
        assert!(chosen(&home, Family::Ipv6, None).contains("fd00::1 is a local IPv6 address"));
        assert!(chosen(&[], Family::Ipv6, None).contains("no IPv6 address"));
    }

    #[test]
    fn a_source_is_named_without_its_path() {
        assert_eq!(Named(&AddressSource::Url("https://ip.example.org/hunter2".into())).to_string(), "ip.example.org");
        assert_eq!(Named(&AddressSource::Interface("eth0".into())).to_string(), "interface eth0");
    }
}
