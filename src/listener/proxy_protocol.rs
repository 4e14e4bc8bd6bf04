//! The PROXY protocol header (v1 and v2) that a trusted peer puts before everything else.
//!
//! Exactly the header's bytes are taken from the stream; what follows belongs to TLS. The caller sets the deadline.

use std::io;
use std::net::IpAddr;

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest v1 header, its line end included (the specification, section 2.1).
const V1_MAX: usize = 107;
/// More than any proxy sends: addresses, and TLVs of a few hundred bytes.
const V2_MAX: usize = 4096;
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads one header. `Ok(None)` means that the proxy speaks for itself (`LOCAL`, `UNKNOWN`): a health check.
///
/// Anything else than a header is an `InvalidData` error: a peer that must announce its clients and does not would
/// make all of them look like itself.
pub async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut header = vec![0; V2_SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == V2_SIGNATURE { read_v2(stream, header).await } else { read_v1(stream, header).await }
}

async fn read_v1(stream: &mut (impl AsyncRead + Unpin), mut header: Vec<u8>) -> io::Result<Option<IpAddr>> {
    if !header.starts_with(b"PROXY ") {
        return Err(invalid("no PROXY protocol header"));
    }
    while !header.ends_with(b"\r\n") {
        if header.len() == V1_MAX {
            return Err(invalid("PROXY protocol v1 header too long"));
        }
        header.push(stream.read_u8().await?);
    }
    let parsed = v1::Header::try_from(header.as_slice()).map_err(|_| invalid("PROXY protocol v1 header malformed"))?;
    Ok(match parsed.addresses {
        v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Unknown => None,
    })
}

async fn read_v2(stream: &mut (impl AsyncRead + Unpin), mut header: Vec<u8>) -> io::Result<Option<IpAddr>> {
    let mut rest = [0; 4];
    stream.read_exact(&mut rest).await?;
    let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
    if length > V2_MAX {
        return Err(invalid("PROXY protocol v2 header too long"));
    }
    header.extend(rest);
    let start = header.len();
    header.resize(start + length, 0);
    stream.read_exact(&mut header[start..]).await?;
    let parsed = v2::Header::try_from(header.as_slice()).map_err(|_| invalid("PROXY protocol v2 header malformed"))?;
    if parsed.command == v2::Command::Local {
        return Ok(None);
    }
    match parsed.addresses {
        v2::Addresses::IPv4(addresses) => Ok(Some(addresses.source_address.into())),
        v2::Addresses::IPv6(addresses) => Ok(Some(addresses.source_address.into())),
        v2::Addresses::Unspecified => Ok(None),
        v2::Addresses::Unix(_) => Err(invalid("PROXY protocol v2 names a Unix socket")),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2_ipv4(command: u8, source: [u8; 4], tlvs: &[u8]) -> Vec<u8> {
        let mut header = V2_SIGNATURE.to_vec();
        header.extend([0x20 | command, 0x11]);
        header.extend(((12 + tlvs.len()) as u16).to_be_bytes());
        header.extend(source);
        header.extend([192, 0, 2, 1, 0x10, 0x92, 0x01, 0xbb]);
        header.extend(tlvs);
        header
    }

    /// What was read, and what was left on the stream.
    async fn read(header: &[u8]) -> (Result<Option<String>, io::ErrorKind>, Vec<u8>) {
        let bytes = [header, b"\x16\x03\x01"].concat();
        let mut stream = bytes.as_slice();
        let read = read_header(&mut stream).await;
        (read.map(|ip| ip.map(|ip| ip.to_string())).map_err(|e| e.kind()), stream.to_vec())
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_tls_alone() {
        for (header, expected) in [
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 4242 443\r\n".to_vec(), Some("203.0.113.9")),
            (b"PROXY TCP6 2001:db8::9 2001:db8::1 4242 443\r\n".to_vec(), Some("2001:db8::9")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2_ipv4(1, [203, 0, 113, 9], b""), Some("203.0.113.9")),
            (v2_ipv4(1, [203, 0, 113, 9], b"\x04\x00\x02ab"), Some("203.0.113.9")),
            (v2_ipv4(0, [203, 0, 113, 9], b""), None),
        ] {
            let (client, left) = read(&header).await;
            assert_eq!(client, Ok(expected.map(String::from)), "{}", header.escape_ascii());
            assert_eq!(left, b"\x16\x03\x01");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let too_long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let mut huge = V2_SIGNATURE.to_vec();
        huge.extend([0x21, 0x11, 0xff, 0xff]);
        for header in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), b"PROXY TCP4 x y 1 2\r\n".to_vec(), too_long, huge] {
            assert_eq!(read(&header).await.0, Err(io::ErrorKind::InvalidData), "{}", header.escape_ascii());
        }
        assert_eq!(read(b"PROXY TC").await.0, Err(io::ErrorKind::UnexpectedEof));
    }
}
