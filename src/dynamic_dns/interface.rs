//! The addresses of a network interface of this machine, from the kernel itself (rtnetlink(7)).
//!
//! Netlink, because only it says how long an address is meant to stay, and it says it of both families. Reading what the
//! kernel writes is pure: a message that is cut short or odd is passed over.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// One address that an interface holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub address: IpAddr,
    /// Not to be used: found double, not yet checked, on its way out, or of those that change every day (RFC 8981).
    pub is_passing: bool,
    /// A second IPv4 address of a network.
    pub is_secondary: bool,
    /// Seconds for which new connections may begin with it; `u32::MAX`: for ever.
    pub preferred: u32,
}

/// The addresses of `interface`; `None` if there is none of that name.
pub(super) fn held_by(interface: &str) -> io::Result<Option<Vec<Held>>> {
    let socket = Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_ROUTE)))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; DATAGRAM];
    socket.send(&ask_for_link(interface))?;
    let read = (&socket).read(&mut buffer)?;
    let Some(index) = index(&buffer[..read])? else { return Ok(None) };
    socket.send(&ask_for_addresses())?;
    let mut held = Vec::new();
    for _ in 0..DATAGRAMS {
        let read = (&socket).read(&mut buffer)?;
        if collect(&buffer[..read], index, &mut held)? == Progress::Done {
            return Ok(Some(held));
        }
    }
    Err(io::Error::other("more addresses than are read"))
}

/// Whether more is to come.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

fn ask_for_link(interface: &str) -> Vec<u8> {
    let mut body = vec![0; LINK_HEADER];
    let length = ATTRIBUTE_HEADER + interface.len() + 1;
    body.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    body.extend(IFLA_IFNAME.to_ne_bytes());
    body.extend(interface.as_bytes());
    body.resize((LINK_HEADER + length).next_multiple_of(ALIGNMENT), 0);
    request(RTM_GETLINK, NLM_F_REQUEST, &body)
}

fn ask_for_addresses() -> Vec<u8> {
    request(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, &[0; ADDRESS_HEADER])
}

fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(MESSAGE_HEADER + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(MESSAGE_HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and port: the socket asks one thing at a time.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The number of the interface that was asked for.
fn index(datagram: &[u8]) -> io::Result<Option<u32>> {
    for (kind, body) in messages(datagram) {
        match kind {
            NLMSG_ERROR => {
                let refusal = refusal(body);
                return if refusal.raw_os_error() == Some(ENODEV) { Ok(None) } else { Err(refusal) };
            }
            RTM_NEWLINK => return Ok(number(body, 4)),
            _ => {}
        }
    }
    Ok(None)
}

/// Puts the addresses of the interface with this index to those that are `held`.
fn collect(datagram: &[u8], index: u32, held: &mut Vec<Held>) -> io::Result<Progress> {
    for (kind, body) in messages(datagram) {
        match kind {
            NLMSG_ERROR => return Err(refusal(body)),
            NLMSG_DONE => return Ok(Progress::Done),
            RTM_NEWADDR if number(body, 4) == Some(index) => held.extend(address(body)),
            _ => {}
        }
    }
    Ok(Progress::More)
}

fn address(body: &[u8]) -> Option<Held> {
    let (family, flags) = (*body.first()?, *body.get(2)?);
    let (mut own, mut prefix, mut preferred) = (None, None, u32::MAX);
    for (kind, value) in attributes(body.get(ADDRESS_HEADER..)?) {
        match kind {
            IFA_LOCAL => own = Some(value),
            IFA_ADDRESS => prefix = Some(value),
            IFA_CACHEINFO => preferred = number(value, 0)?,
            _ => {}
        }
    }
    // At the end of a tunnel (ppp0), `IFA_ADDRESS` is the other side's.
    let bytes = own.or(prefix)?;
    let (address, temporary) = match i32::from(family) {
        AF_INET => (IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)), 0),
        AF_INET6 => (IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)), IFA_F_SECONDARY),
        _ => return None,
    };
    Some(Held {
        address,
        is_passing: flags & (IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE | temporary) != 0,
        is_secondary: flags & IFA_F_SECONDARY != 0,
        preferred,
    })
}

/// Kinds and bodies of the messages in one datagram.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(number(rest, 0)?).ok()?;
        let kind = short(rest, 4)?;
        // An answer longer than the buffer has been cut by the kernel; what is asked for stands at its beginning.
        let body = rest.get(MESSAGE_HEADER..length.min(rest.len()))?;
        rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some((kind, body))
    })
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(short(rest, 0)?);
        let kind = short(rest, 2)? & NLA_TYPE_MASK;
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// What the kernel says instead of an answer: a negative errno.
fn refusal(body: &[u8]) -> io::Error {
    let errno = number(body, 0).map_or(0, |errno| errno.cast_signed().saturating_neg());
    io::Error::from_raw_os_error(errno)
}

// As in linux/netlink.h, linux/rtnetlink.h and linux/if_addr.h: part of the kernel's promise to programs.
const AF_NETLINK: i32 = 16;
const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
const NETLINK_ROUTE: i32 = 0;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
/// `IFA_F_TEMPORARY` for IPv6.
const IFA_F_SECONDARY: u8 = 0x01;
const IFA_F_DADFAILED: u8 = 0x08;
const IFA_F_DEPRECATED: u8 = 0x20;
const IFA_F_TENTATIVE: u8 = 0x40;
const NLA_TYPE_MASK: u16 = 0x3fff;
const ENODEV: i32 = 19;
const ALIGNMENT: usize = 4;
const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ATTRIBUTE_HEADER: usize = 4;
/// The kernel answers before `send` returns.
const PATIENCE: Duration = Duration::from_secs(1);
/// The largest datagram of a dump.
const DATAGRAM: usize = 32 * 1024;
/// Some ten thousand addresses, of all interfaces together.
const DATAGRAMS: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn new_address(family: i32, flags: u8, index: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![u8::try_from(family).unwrap(), 64, flags, 0];
        body.extend(index.to_ne_bytes());
        body.extend(attributes.concat());
        request(RTM_NEWADDR, 0, &body)
    }

    fn v6(last: u8, flags: u8, preferred: u32) -> Vec<u8> {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)).octets();
        let cache = [preferred, u32::MAX, 0, 0].map(u32::to_ne_bytes).concat();
        new_address(AF_INET6, flags, 4, &[attribute(IFA_ADDRESS, &address), attribute(IFA_CACHEINFO, &cache)])
    }

    fn read(datagram: &[u8]) -> (Vec<Held>, Progress) {
        let mut held = Vec::new();
        let progress = collect(datagram, 4, &mut held).unwrap();
        (held, progress)
    }

    #[test]
    fn a_dump_of_both_families_is_read() {
        let tunnel = [attribute(IFA_ADDRESS, &[203, 0, 113, 1]), attribute(IFA_LOCAL, &[203, 0, 113, 9])];
        let dump = [
            new_address(AF_INET, 0x80, 4, &tunnel),
            new_address(AF_INET, 0x80, 5, &[attribute(IFA_LOCAL, &[203, 0, 113, 10])]),
            v6(1, 0x80, 1800),
            request(NLMSG_DONE, 0, &[0; 4]),
        ];
        let (held, progress) = read(&dump.concat());
        let own = Held {
            address: "203.0.113.9".parse().unwrap(),
            is_passing: false,
            is_secondary: false,
            preferred: u32::MAX,
        };
        let other = Held { address: "2001:db8::1".parse().unwrap(), preferred: 1800, ..own };
        assert_eq!((held, progress), (vec![own, other], Progress::Done));
    }

    #[test]
    fn what_the_kernel_would_not_use_itself_is_passing() {
        for (flags, expected) in [(0x80, false), (0x00, false), (0x01, true), (0x08, true), (0x20, true), (0x40, true)]
        {
            assert_eq!(read(&v6(1, flags, 60)).0[0].is_passing, expected, "{flags:#x}");
        }
        let second = new_address(AF_INET, 0x01, 4, &[attribute(IFA_LOCAL, &[203, 0, 113, 10])]);
        let (held, progress) = read(&second);
        assert!(!held[0].is_passing && held[0].is_secondary && progress == Progress::More);
    }

    #[test]
    fn an_unknown_interface_is_no_error_and_another_refusal_is() {
        let refused = |errno: i32| request(NLMSG_ERROR, 0, &(-errno).to_ne_bytes());
        assert_eq!(index(&refused(ENODEV)).unwrap(), None);
        assert_eq!(index(&refused(1)).unwrap_err().raw_os_error(), Some(1));
        assert_eq!(collect(&refused(1), 4, &mut Vec::new()).unwrap_err().raw_os_error(), Some(1));
    }

    #[test]
    fn the_kernel_of_this_machine_is_understood() {
        let held = held_by("lo").unwrap().unwrap();
        assert!(held.iter().any(|held| held.address == IpAddr::V4(Ipv4Addr::LOCALHOST)), "{held:?}");
        assert_eq!(held_by("no-such-device").unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_confuse_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = index(&bytes);
            let _ = collect(&bytes, 4, &mut Vec::new());
        }

        #[test]
        fn a_dump_may_be_cut_anywhere(at in 0_usize..200) {
            let dump = [v6(1, 0x80, 1), v6(2, 0x80, 2)].concat();
            let (held, _) = read(&dump[..at.min(dump.len())]);
            prop_assert!(held.len() <= 2);
        }
    }
}
