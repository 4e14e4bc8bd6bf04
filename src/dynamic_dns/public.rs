//! Which addresses may be published: those at which somebody on the internet can knock.
//!
//! Documentation addresses (RFC 5737, RFC 3849, RFC 9637) pass: nobody has one, publishing one harms nobody, and tests
//! need addresses that are nobody's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is never published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotPublic {
    #[error(
        "{0} is a private address, from inside a home: name a source that sees the public one; if the router itself has \
         such an address towards the internet, the provider shares its addresses (carrier NAT), and no dynamic DNS makes \
         this home reachable over IPv4: ask the provider for a public address, or be reached over IPv6"
    )]
    Private(Ipv4Addr),
    #[error(
        "{0} is shared among many customers of the provider (carrier NAT): nobody can connect to it, and dynamic DNS \
         cannot help; ask the provider for a public IPv4 address, or be reached over IPv6"
    )]
    Shared(Ipv4Addr),
    #[error(
        "{0} is a local IPv6 address (ULA), which the internet does not carry: name a source that sees the public one"
    )]
    UniqueLocal(Ipv6Addr),
    #[error("{0} is no address that the internet carries")]
    Unreachable(IpAddr),
}

/// `address`, unless nobody could reach it.
pub(super) fn public(address: IpAddr) -> Result<IpAddr, NotPublic> {
    match address {
        IpAddr::V4(v4) => public_v4(v4),
        IpAddr::V6(v6) => public_v6(v6),
    }
    .map(|()| address)
}

fn public_v4(address: Ipv4Addr) -> Result<(), NotPublic> {
    match address.octets() {
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Err(NotPublic::Private(address)),
        // RFC 6598; and DS-Lite (RFC 6333), where the router's own address is a place-holder.
        [100, 64..=127, ..] | [192, 0, 0, _] => Err(NotPublic::Shared(address)),
        // "This network", loopback, link-local, benchmarks (RFC 2544), multicast, reserved and broadcast.
        [0 | 127 | 224..=255, ..] | [169, 254, ..] | [198, 18 | 19, ..] => Err(NotPublic::Unreachable(address.into())),
        _ => Ok(()),
    }
}

fn public_v6(address: Ipv6Addr) -> Result<(), NotPublic> {
    match address.segments() {
        [0xfc00..=0xfdff, ..] => Err(NotPublic::UniqueLocal(address)),
        // Protocol assignments (RFC 2928), Teredo among them.
        [0x2001, 0..=0x01ff, ..] => Err(NotPublic::Unreachable(address.into())),
        // All that has been given out as global unicast (RFC 4291, section 2.4).
        [0x2000..=0x3fff, ..] => Ok(()),
        _ => Err(NotPublic::Unreachable(address.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(address: &str) -> &'static str {
        match public(address.parse().unwrap()) {
            Ok(_) => "public",
            Err(NotPublic::Private(_)) => "private",
            Err(NotPublic::Shared(_)) => "shared",
            Err(NotPublic::UniqueLocal(_)) => "local",
            Err(NotPublic::Unreachable(_)) => "unreachable",
        }
    }

    #[test]
    fn each_range_ends_where_its_rfc_says() {
        let table = [
            ("0.255.255.255", "unreachable"),
            ("1.0.0.0", "public"),
            ("9.255.255.255", "public"),
            ("10.0.0.0", "private"),
            ("11.0.0.0", "public"),
            ("100.63.255.255", "public"),
            ("100.64.0.0", "shared"),
            ("100.127.255.255", "shared"),
            ("100.128.0.0", "public"),
            ("127.0.0.1", "unreachable"),
            ("169.253.255.255", "public"),
            ("169.254.0.1", "unreachable"),
            ("172.15.255.255", "public"),
            ("172.16.0.0", "private"),
            ("172.31.255.255", "private"),
            ("172.32.0.0", "public"),
            ("192.0.0.2", "shared"),
            ("192.0.1.0", "public"),
            ("192.167.255.255", "public"),
            ("192.168.1.1", "private"),
            ("192.169.0.0", "public"),
            ("198.17.255.255", "public"),
            ("198.19.255.255", "unreachable"),
            ("223.255.255.255", "public"),
            ("224.0.0.1", "unreachable"),
            ("255.255.255.255", "unreachable"),
            ("::", "unreachable"),
            ("::1", "unreachable"),
            ("::ffff:8.8.8.8", "unreachable"),
            ("64:ff9b::808:808", "unreachable"),
            ("1fff::1", "unreachable"),
            ("2000::1", "public"),
            ("2001::1", "unreachable"),
            ("2001:200::1", "public"),
            ("2a00:1450:4001::1", "public"),
            ("4000::1", "unreachable"),
            ("fbff::1", "unreachable"),
            ("fc00::1", "local"),
            ("fdff::1", "local"),
            ("fe80::1", "unreachable"),
            ("ff02::1", "unreachable"),
        ];
        for (address, expected) in table {
            assert_eq!(verdict(address), expected, "{address}");
        }
    }

    #[test]
    fn documentation_addresses_pass() {
        for address in ["192.0.2.1", "198.51.100.255", "203.0.113.7", "2001:db8::1", "3fff::1"] {
            assert_eq!(verdict(address), "public", "{address}");
        }
    }

    #[test]
    fn a_home_behind_carrier_nat_reads_what_can_be_done() {
        let shared = public("100.72.3.4".parse().unwrap()).unwrap_err().to_string();
        assert!(shared.contains("100.72.3.4") && shared.contains("carrier NAT") && shared.contains("IPv6"), "{shared}");
        let private = public("192.168.1.2".parse().unwrap()).unwrap_err().to_string();
        assert!(private.contains("carrier NAT") && private.contains("source"), "{private}");
    }
}
