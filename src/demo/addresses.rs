//! Chooses addresses for the demo that are free on this machine.
//!
//! They are tried by binding and letting go, so another program may still snatch one: then the gate
//! says so when it starts. Fine for a demo, and for nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::Context;

/// Where the gate of the demo is to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    /// The wanted address first.
    pub(super) https: Vec<SocketAddr>,
    pub(super) http: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Addresses {
    /// Insists on `https`; gives up its IPv6 (or IPv4) sibling and the usual ports of the others.
    pub(super) fn find(https: SocketAddr) -> anyhow::Result<Self> {
        TcpListener::bind(https).with_context(|| format!("cannot listen on {https}; choose another with --listen"))?;
        // With port 0 the two families would get different ports.
        let sibling = sibling(https).filter(|sibling| sibling.port() != 0 && is_free(*sibling));
        let https = [https].into_iter().chain(sibling).collect();
        Ok(Self { https, http: loopback_or_any_port(8080), admin: loopback_or_any_port(9180) })
    }
}

/// The loopback address of the other family: browsers try both for `localhost`.
fn sibling(address: SocketAddr) -> Option<SocketAddr> {
    let sibling = match address.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => return None,
    };
    Some(SocketAddr::new(sibling, address.port()))
}

fn loopback_or_any_port(port: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if is_free(usual) { usual } else { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_https_address_is_an_error_that_says_what_to_do() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let error = Addresses::find(taken.local_addr().unwrap()).unwrap_err();
        assert!(error.to_string().contains("--listen"), "{error}");
    }

    #[test]
    fn a_taken_port_gives_way_to_any_port() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(loopback_or_any_port(taken.local_addr().unwrap().port()).port(), 0);
    }

    #[test]
    fn only_loopback_has_a_sibling() {
        assert_eq!(sibling(([127, 0, 0, 1], 8443).into()), Some("[::1]:8443".parse().unwrap()));
        assert_eq!(sibling("[::1]:8443".parse().unwrap()), Some(([127, 0, 0, 1], 8443).into()));
        assert_eq!(sibling(([0, 0, 0, 0], 8443).into()), None);
    }
}
