//! Finding the servers that know a name at first hand.
//!
//! The system's resolvers, or those configured, are asked for the way only: CNAMEs, the zone, the addresses of its
//! servers. What a record holds is asked of the zone's own servers, since everybody else may remember an older answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::{Rtype, ToName};
use domain::rdata::{A, Aaaa, Cname, Ns, Soa};
use futures_util::future::{join_all, select_ok};

use super::transport::{self, DnsMessage, DnsName, NoAnswer, Recursion};

/// Asks resolvers for the way, and a zone's servers for what they hold.
#[derive(Debug)]
pub(super) struct Resolver {
    /// Empty: the system's, read anew each time, since a home's network may come up after the gate.
    resolvers: Vec<SocketAddr>,
    /// Where a zone's servers listen: 53 outside of tests.
    authoritative_port: u16,
    /// For one server's answer.
    patience: Duration,
}

/// A zone, and those who answer for it.
#[derive(Debug)]
pub(super) struct Zone {
    /// At least one, at most [`MAX_SERVERS`].
    pub servers: Vec<Server>,
}

/// One address of one of a zone's servers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Server {
    pub name: String,
    pub address: SocketAddr,
}

/// Why the way to a zone's servers has not been found.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("no resolver answers: {tried}; look at /etc/resolv.conf, or set `acme.propagation.resolvers`")]
    NoResolver { tried: String },
    #[error("no zone of `{name}` is known: {seen}; is the name registered, and does its zone have name servers?")]
    NoZone { name: String, seen: String },
    #[error(
        "the name servers of `{zone}` are not found: {seen}; if the home's resolver has a view of its own, set \
         `acme.propagation.resolvers`"
    )]
    NoServers { zone: String, seen: String },
    #[error("none of its name servers answers, the last one was {seen}; is port 53 open towards the internet?")]
    NoAnswer { seen: String },
}

impl Resolver {
    pub fn new(resolvers: &[SocketAddr], authoritative_port: u16, patience: Duration) -> Self {
        Self { resolvers: resolvers.to_vec(), authoritative_port, patience }
    }

    /// `name` and those it stands for, by CNAMEs, in order; at most [`MAX_CNAMES`] more.
    pub async fn chain(&self, name: &DnsName) -> Result<Vec<DnsName>, LookupError> {
        let mut chain = vec![name.clone()];
        while let Some(last) = chain.last().filter(|_| chain.len() <= MAX_CNAMES) {
            // Some servers fail for types they do not know: then there is no CNAME. NXDOMAIN is the rule here.
            match cname(&self.ask_resolvers(last, Rtype::CNAME).await?, last) {
                Some(target) if !chain.contains(&target) => chain.push(target),
                Some(_) | None => break,
            }
        }
        Ok(chain)
    }

    /// The servers of the zone that holds `name`.
    pub async fn zone(&self, name: &DnsName) -> Result<Zone, LookupError> {
        let zone = self.apex(name).await?;
        let answer = self.ask_resolvers(&zone, Rtype::NS).await?;
        let names = name_servers(&answer, &zone);
        let addresses = join_all(names.iter().map(|name| self.addresses_of(name))).await;
        let mut servers: Vec<_> = addresses.into_iter().flatten().collect();
        servers.sort();
        servers.dedup();
        servers.truncate(MAX_SERVERS);
        if servers.is_empty() {
            let names: Vec<_> = names.iter().map(DnsName::to_string).collect();
            let seen = if names.is_empty() { words(answer.header().rcode()).to_owned() } else { names.join(", ") };
            return Err(LookupError::NoServers { zone: zone.to_string(), seen });
        }
        Ok(Zone { servers })
    }

    /// Asks one of a zone's servers for what it holds.
    pub async fn ask_server(&self, server: &Server, name: &DnsName, kind: Rtype) -> Result<DnsMessage, NoAnswer> {
        transport::ask(server.address, name, kind, Recursion::None, self.patience).await
    }

    /// The first answer of any of the zone's servers.
    pub async fn ask_zone(&self, zone: &Zone, name: &DnsName, kind: Rtype) -> Result<DnsMessage, LookupError> {
        let asked = zone.servers.iter().map(|server| {
            Box::pin(async move {
                let told = |said: String| format!("{} ({}): {said}", server.name, server.address.ip());
                match self.ask_server(server, name, kind).await {
                    Ok(answer) if is_answer(&answer) => Ok(answer),
                    Ok(answer) => Err(told(words(answer.header().rcode()).to_owned())),
                    Err(error) => Err(told(error.to_string())),
                }
            })
        });
        let (answer, _) = select_ok(asked).await.map_err(|seen| LookupError::NoAnswer { seen })?;
        Ok(answer)
    }

    /// Where the zone of `name` begins: the SOA comes with the name's own answer, or with that of a name above.
    async fn apex(&self, name: &DnsName) -> Result<DnsName, LookupError> {
        let mut seen = "";
        for above in name.iter_suffixes().filter(|above| !above.is_root()) {
            let above: DnsName = above.to_name();
            let answer = self.ask_resolvers(&above, Rtype::SOA).await?;
            if let Some(apex) = soa_owner(&answer, &above) {
                return Ok(apex);
            }
            seen = words(answer.header().rcode());
        }
        Err(LookupError::NoZone { name: name.to_string(), seen: seen.to_owned() })
    }

    async fn addresses_of(&self, name: &DnsName) -> Vec<Server> {
        let (ipv4, ipv6) = tokio::join!(self.ask_resolvers(name, Rtype::A), self.ask_resolvers(name, Rtype::AAAA));
        let ipv4 = ipv4.iter().flat_map(|answer| ipv4_of(answer, name)).map(IpAddr::from);
        let ipv6 = ipv6.iter().flat_map(|answer| ipv6_of(answer, name)).map(IpAddr::from);
        let server =
            |address| Server { name: name.to_string(), address: SocketAddr::new(address, self.authoritative_port) };
        ipv4.chain(ipv6).map(server).collect()
    }

    /// The first resolver's answer; that of the next if it fails, and the failure if all do.
    async fn ask_resolvers(&self, name: &DnsName, kind: Rtype) -> Result<DnsMessage, LookupError> {
        let resolvers = if self.resolvers.is_empty() { system_resolvers().await } else { self.resolvers.clone() };
        let (mut failure, mut tried) = (None, Vec::new());
        for resolver in resolvers {
            match transport::ask(resolver, name, kind, Recursion::Desired, self.patience).await {
                Ok(answer) if is_answer(&answer) => return Ok(answer),
                Ok(answer) => failure = Some(answer),
                Err(error) => tried.push(format!("{resolver}: {error}")),
            }
        }
        failure.ok_or_else(|| LookupError::NoResolver { tried: tried.join(", ") })
    }
}

/// The owner of the SOA in an answer about `name`, if it is `name` or above.
///
/// A SOA of elsewhere belongs to what `name` is a CNAME for.
pub(super) fn soa_owner(answer: &DnsMessage, name: &DnsName) -> Option<DnsName> {
    let (_, answers, authority, _) = answer.sections().ok()?;
    let soas = answers.limit_to::<Soa<_>>().chain(authority.limit_to::<Soa<_>>());
    soas.flatten().map(|soa| soa.owner().to_name()).find(|owner: &DnsName| !owner.is_root() && name.ends_with(owner))
}

/// A server's word on a name, if only that there is nothing.
pub(super) fn is_answer(message: &DnsMessage) -> bool {
    matches!(message.header().rcode(), Rcode::NOERROR | Rcode::NXDOMAIN)
}

fn cname(answer: &DnsMessage, name: &DnsName) -> Option<DnsName> {
    let mut cnames = answer.answer().ok()?.limit_to::<Cname<_>>().flatten();
    cnames.find(|cname| cname.owner() == name).map(|cname| cname.data().cname().to_name())
}

fn name_servers(answer: &DnsMessage, zone: &DnsName) -> Vec<DnsName> {
    let Ok(records) = answer.answer() else { return Vec::new() };
    let servers = records.limit_to::<Ns<_>>().flatten().filter(|server| server.owner() == zone);
    servers.map(|server| server.data().nsdname().to_name()).take(MAX_SERVERS).collect()
}

pub(super) fn ipv4_of(answer: &DnsMessage, owner: &DnsName) -> Vec<Ipv4Addr> {
    let Ok(records) = answer.answer() else { return Vec::new() };
    let records = records.limit_to_in::<A>().flatten().filter(|record| record.owner() == owner);
    records.map(|record| record.data().addr()).collect()
}

pub(super) fn ipv6_of(answer: &DnsMessage, owner: &DnsName) -> Vec<Ipv6Addr> {
    let Ok(records) = answer.answer() else { return Vec::new() };
    let records = records.limit_to_in::<Aaaa>().flatten().filter(|record| record.owner() == owner);
    records.map(|record| record.data().addr()).collect()
}

/// What a server means by its code, for those who do not read RFCs.
pub(super) fn words(code: Rcode) -> &'static str {
    match code {
        Rcode::NOERROR => "no such record",
        Rcode::NXDOMAIN => "no such name (NXDOMAIN)",
        Rcode::SERVFAIL => "a failure of its own (SERVFAIL)",
        Rcode::REFUSED => "a refusal (REFUSED)",
        Rcode::NOTAUTH => "that it is not in charge (NOTAUTH)",
        Rcode::NOTIMP => "that it cannot do this (NOTIMP)",
        Rcode::FORMERR => "that it does not understand (FORMERR)",
        _ => "an error",
    }
}

/// As in resolv.conf(5): without any, there is one on this machine.
async fn system_resolvers() -> Vec<SocketAddr> {
    let text = tokio::fs::read_to_string(RESOLV_CONF).await.unwrap_or_default();
    let resolvers = nameservers(&text);
    if resolvers.is_empty() { vec![(Ipv4Addr::LOCALHOST, DNS_PORT).into()] } else { resolvers }
}

fn nameservers(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver") { nameserver(words.next()?) } else { None }
    });
    addresses.take(MAX_RESOLVERS).collect()
}

/// A home's router may be known by a link-local address only, which goes with an interface.
fn nameserver(text: &str) -> Option<SocketAddr> {
    let Some((address, interface)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, DNS_PORT));
    };
    let index = interface.parse().ok().or_else(|| nix::net::if_::if_nametoindex(interface).ok())?;
    Some(SocketAddrV6::new(address.parse().ok()?, DNS_PORT, 0, index).into())
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
pub(super) const DNS_PORT: u16 = 53;
/// For one server's answer. A home without IPv6 does not wait as long: its own system refuses at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// As many as the C library reads.
const MAX_RESOLVERS: usize = 3;
const MAX_CNAMES: usize = 8;
/// Addresses, not machines: a zone has two to nine servers, with one of each family.
const MAX_SERVERS: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dns::fixtures::{broken_answer, name};

    proptest! {
        /// Whatever a stranger's server sends, reading it ends, and finds nothing above the name but its own zone.
        #[test]
        fn a_broken_answer_is_read_without_harm(answer in broken_answer()) {
            let asked = name("a.example.org");
            if let Some(zone) = soa_owner(&answer, &asked) {
                prop_assert!(asked.ends_with(&zone) && !zone.is_root());
            }
            cname(&answer, &asked);
            prop_assert!(name_servers(&answer, &asked).len() <= MAX_SERVERS);
            ipv4_of(&answer, &asked);
            ipv6_of(&answer, &asked);
        }
    }

    #[test]
    fn resolv_conf_is_read_as_the_c_library_does() {
        for (text, expected) in [
            ("", &[][..]),
            ("# nameserver 1.1.1.1\nsearch lan\n", &[]),
            ("nameserver 192.168.1.1\nnameserver fd00::1 \n", &["192.168.1.1:53", "[fd00::1]:53"]),
            ("nameserver\t192.168.1.1 # the router", &["192.168.1.1:53"]),
            ("nameserver fe80::1%7", &["[fe80::1%7]:53"]),
            ("nameserver fe80::1%nosuch\nnameserver nonsense\nnameserver\n", &[]),
            (
                "nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\nnameserver 1.0.0.4",
                &["1.0.0.1:53", "1.0.0.2:53", "1.0.0.3:53"],
            ),
        ] {
            let found: Vec<_> = nameservers(text).iter().map(SocketAddr::to_string).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
