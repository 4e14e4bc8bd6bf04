//! Who the client is: one verified address, and the key under which it is counted.
//!
//! Pure: parsing and classification only, no sockets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

use crate::config::{ForwardedHeader, TrustedProxies};

/// A client's address in canonical form: IPv4-mapped IPv6 addresses are unmapped, there is no port and no zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientAddr(IpAddr);

impl ClientAddr {
    /// Takes the canonical form of `ip`.
    pub fn new(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }

    /// The address itself.
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// The key under which this client is counted.
    pub fn key(self) -> ClientKey {
        ClientKey::of(self.0)
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What limits are counted by: one IPv4 address, or the /64 of an IPv6 address, since a single home or phone owns
/// all of a /64 and changes its address within it at will (RFC 8981).
///
/// Eight bytes: the /64 itself, or an IPv4 address below a multicast prefix, from which nobody connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(u64);

/// Where IPv4 addresses are among the /64: `ffff:ffff::/32`, which is multicast (RFC 4291 section 2.7).
const IPV4: u64 = 0xffff_ffff_0000_0000;

impl ClientKey {
    fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self(IPV4 | u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }

    /// The network that is counted as one client.
    pub fn network(self) -> IpNet {
        if self.0 & IPV4 == IPV4 {
            return IpNet::from(IpAddr::V4(Ipv4Addr::from_bits(self.0 as u32)));
        }
        IpNet::new_assert(IpAddr::V6(Ipv6Addr::from_bits(u128::from(self.0) << 64)), 64)
    }

    /// The wider networks that are suspected when many clients in them fail: the /56 and the /48 that providers give
    /// to one home (RFC 6177). IPv4 has none: its neighbours are strangers.
    pub fn wider(self) -> impl Iterator<Item = IpNet> {
        let network = self.network();
        let prefixes: &[u8] = if network.addr().is_ipv6() { &[56, 48] } else { &[] };
        prefixes.iter().map(move |prefix| IpNet::new_assert(network.addr(), *prefix).trunc())
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.network() {
            IpNet::V4(network) => network.addr().fmt(f),
            IpNet::V6(network) => network.fmt(f),
        }
    }
}

/// A trusted proxy named its client in a form that cannot be read; the request is refused, because passing it on
/// under the proxy's own address would make every such client the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the trusted proxy's client address field is malformed")]
pub struct MalformedForwarding;

/// Finds the client behind `peer`.
///
/// Only a peer inside `trusted.networks` is asked for `trusted.header`; from everyone else the field is ignored.
/// In a list, the rightmost address that is not itself trusted is the client: everything left of it was written by
/// someone unverified. A list of trusted addresses only yields its leftmost one, an absent field the peer itself.
pub fn verified_client(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &TrustedProxies,
) -> Result<ClientAddr, MalformedForwarding> {
    let peer = ClientAddr::new(peer);
    if !is_within(peer.ip(), &trusted.networks) {
        return Ok(peer);
    }
    let named = match &trusted.header {
        ForwardedHeader::XForwardedFor => list(headers, "x-forwarded-for", parse_address)?,
        ForwardedHeader::Forwarded => list(headers, "forwarded", parse_forwarded_element)?,
        ForwardedHeader::Single(name) => {
            let mut values = headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => Vec::new(),
                (Some(value), None) => {
                    vec![value.to_str().ok().and_then(|v| parse_address(v.trim())).ok_or(MalformedForwarding)?]
                }
                (Some(_), Some(_)) => return Err(MalformedForwarding),
            }
        }
    };
    let client = named.iter().rev().find(|ip| !is_within(**ip, &trusted.networks)).or(named.first());
    Ok(client.map_or(peer, |ip| ClientAddr::new(*ip)))
}

/// Whether `ip`, in canonical form, is inside one of `networks`.
pub fn is_within(ip: IpAddr, networks: &[IpNet]) -> bool {
    let ip = ip.to_canonical();
    networks.iter().any(|network| network.contains(&ip))
}

fn list(
    headers: &HeaderMap,
    name: &str,
    parse: fn(&str) -> Option<IpAddr>,
) -> Result<Vec<IpAddr>, MalformedForwarding> {
    let mut addresses = Vec::new();
    for value in headers.get_all(name) {
        for element in value.to_str().map_err(|_| MalformedForwarding)?.split(',') {
            addresses.push(parse(element.trim()).ok_or(MalformedForwarding)?);
        }
    }
    Ok(addresses)
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1` or `[2001:db8::1]:443`; ports occur in the wild (Azure, AWS).
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|ip| ip.to_canonical())
}

/// The `for` parameter of one RFC 7239 element, quoted or not.
fn parse_forwarded_element(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then(|| parse_address(value.trim_matches('"')))?
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn trusted(header: ForwardedHeader) -> TrustedProxies {
        TrustedProxies { networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()], header }
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn client(peer: &str, header: ForwardedHeader, fields: &[(&'static str, &str)]) -> Result<String, ()> {
        verified_client(peer.parse().unwrap(), &headers(fields), &trusted(header))
            .map(|client| client.to_string())
            .map_err(|_| ())
    }

    #[test]
    fn strangers_cannot_name_themselves() {
        let forged = [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")];
        assert_eq!(client("203.0.113.9", ForwardedHeader::XForwardedFor, &forged), Ok("203.0.113.9".into()));
        assert_eq!(client("::ffff:203.0.113.9", ForwardedHeader::Forwarded, &forged), Ok("203.0.113.9".into()));
    }

    #[test]
    fn a_trusted_proxy_names_its_client() {
        let xff = ForwardedHeader::XForwardedFor;
        for (fields, expected) in [
            (vec![("x-forwarded-for", "6.6.6.6, 203.0.113.9")], Ok("203.0.113.9")),
            (vec![("x-forwarded-for", "203.0.113.9, 10.0.0.7")], Ok("203.0.113.9")),
            (vec![("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.9")], Ok("203.0.113.9")),
            (vec![("x-forwarded-for", "10.0.0.5, 10.0.0.7")], Ok("10.0.0.5")),
            (vec![("x-forwarded-for", "203.0.113.9:1234")], Ok("203.0.113.9")),
            (vec![("x-forwarded-for", "[2001:db8::1]:443")], Ok("2001:db8::1")),
            (vec![("x-forwarded-for", "::ffff:203.0.113.9")], Ok("203.0.113.9")),
            (vec![], Ok("10.1.1.1")),
            (vec![("x-forwarded-for", "unknown")], Err(())),
            (vec![("x-forwarded-for", "203.0.113.9,")], Err(())),
            (vec![("x-forwarded-for", "")], Err(())),
            (vec![("x-forwarded-for", "fe80::1%eth0")], Err(())),
        ] {
            assert_eq!(client("10.1.1.1", xff.clone(), &fields), expected.map(String::from), "{fields:?}");
        }
    }

    #[test]
    fn rfc_7239_and_single_valued_fields_are_read() {
        let fields = [("forwarded", "for=6.6.6.6, For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1")];
        assert_eq!(client("10.1.1.1", ForwardedHeader::Forwarded, &fields), Ok("2001:db8::1".into()));
        assert_eq!(client("10.1.1.1", ForwardedHeader::Forwarded, &[("forwarded", "for=_hidden")]), Err(()));

        let single = ForwardedHeader::Single(HeaderName::from_static("cf-connecting-ip"));
        assert_eq!(client("fd00::1", single.clone(), &[("cf-connecting-ip", "203.0.113.9")]), Ok("203.0.113.9".into()));
        let twice = [("cf-connecting-ip", "203.0.113.9"), ("cf-connecting-ip", "203.0.113.8")];
        assert_eq!(client("fd00::1", single, &twice), Err(()));
    }

    #[test]
    fn a_client_is_counted_by_address_or_by_its_ipv6_network() {
        let key = |text: &str| ClientAddr::new(text.parse().unwrap()).key();
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2:ffff::1"));
        assert_ne!(key("2001:db8:1:2::"), key("2001:db8:1:3::"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_eq!(key("2001:db8::1").to_string(), "2001:db8::/64");
        assert_eq!(key("192.0.2.1").to_string(), "192.0.2.1");
        assert_ne!(key("0.0.0.1"), key("::1"));
    }

    #[test]
    fn an_ipv6_client_lies_in_wider_networks_and_an_ipv4_client_in_none() {
        let wider = |text: &str| -> Vec<String> {
            ClientAddr::new(text.parse().unwrap()).key().wider().map(|network| network.to_string()).collect()
        };
        assert_eq!(wider("2001:db8:1:2ff:3::4"), ["2001:db8:1:200::/56", "2001:db8:1::/48"]);
        assert!(wider("192.0.2.1").is_empty());
    }

    proptest! {
        /// Whatever is appended on the left of what the trusted proxy itself wrote never changes the client.
        #[test]
        fn the_left_of_a_list_decides_nothing(junk in proptest::collection::vec(any::<u32>(), 0..8)) {
            let mut list: Vec<String> = junk.iter().map(|ip| std::net::Ipv4Addr::from(*ip).to_string()).collect();
            list.push("203.0.113.9".into());
            prop_assert_eq!(
                client("10.1.1.1", ForwardedHeader::XForwardedFor, &[("x-forwarded-for", &list.join(", "))]),
                Ok("203.0.113.9".to_string())
            );
        }

        #[test]
        fn arbitrary_fields_never_panic(value in "[ -~]{0,60}") {
            let _ = client("10.1.1.1", ForwardedHeader::XForwardedFor, &[("x-forwarded-for", &value)]);
            let _ = client("10.1.1.1", ForwardedHeader::Forwarded, &[("forwarded", &value)]);
        }
    }
}
