//! The PROXY protocol: a proxy in front of us says whose connection it is that it hands on. Taken only from proxies that the
//! configuration names, and of those it is awaited, for what may be left out may be forged.

use std::io::{Error, ErrorKind, Result};
use std::net::IpAddr;

use futures_util::FutureExt as _;
use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What a header of version 2 begins with.
const VERSION_2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Octets of its fixed part, whose last two tell the length of the rest.
const FIXED: usize = 16;
/// Octets of the longest header of version 1, which is a line of text.
const LINE_MAX: usize = 107;

/// Reads the header and not an octet more; whose connection it is, or `None` when it is the proxy's own.
pub(super) async fn client(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>> {
    let mut header = vec![0; VERSION_2.len()];
    from.read_exact(&mut header).await?;
    if header == VERSION_2 {
        header.resize(FIXED, 0);
        from.read_exact(&mut header[VERSION_2.len()..]).await?;
        let length = u16::from_be_bytes([header[FIXED - 2], header[FIXED - 1]]);
        header.resize(FIXED + usize::from(length), 0);
        from.read_exact(&mut header[FIXED..]).await?;
    } else {
        // One by one, as what follows the line is not ours; it is once a connection.
        while header.last() != Some(&b'\n') && header.len() < LINE_MAX {
            header.push(from.read_u8().await?);
        }
    }
    let told = ProxyHeader::parse(&header, ParseConfig { include_tlvs: false, ..ParseConfig::default() });
    let (header, _) = told.map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
    Ok(header.proxied_address().map(|address| address.source.ip()))
}

/// Whose connection begins with these octets, and what is left of them. For the fuzz targets.
#[doc(hidden)]
pub fn proxied(octets: &[u8]) -> (Result<Option<IpAddr>>, &[u8]) {
    let mut from = octets;
    // What is in memory is never waited for.
    let told = client(&mut from).now_or_never().unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()));
    (told, from)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(octets: &[u8]) -> (Result<Option<IpAddr>>, Vec<u8>) {
        let mut from = octets;
        (client(&mut from).await, from.to_vec())
    }

    #[tokio::test]
    async fn both_versions_are_read_and_nothing_behind_them() {
        let v4 = |kind: u8| {
            let addresses = [192, 0, 2, 7, 192, 0, 2, 1, 1, 187, 3, 85];
            [&VERSION_2[..], &[kind, 0x11, 0, 15], &addresses, &[4, 0, 0], b"rest"].concat()
        };
        let address = IpAddr::from([192, 0, 2, 7]);
        for (octets, expected) in [
            (v4(0x21), Some(address)),
            (v4(0x20), None),
            (b"PROXY TCP4 192.0.2.7 192.0.2.1 443 853\r\nrest".to_vec(), Some(address)),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 443 853\r\nrest".to_vec(), Some("2001:db8::7".parse().unwrap())),
            (b"PROXY UNKNOWN\r\nrest".to_vec(), None),
        ] {
            let (told, rest) = read(&octets).await;
            assert_eq!(told.unwrap(), expected);
            assert_eq!(rest, b"rest");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 1000]].concat();
        let wrong_length = [&VERSION_2[..], &[0x21, 0x11, 0, 4, 1, 2, 3, 4]].concat();
        for octets in [&endless[..], b"\0\x20query that is one of DNS", b"PROXY TCP4 a b c d\r\n", b"PROXY", &wrong_length] {
            assert!(read(octets).await.0.is_err(), "{octets:?}");
        }
        assert_eq!(read(&endless).await.1.len(), 11 + 1000 - LINE_MAX, "no more than a line is read");
    }
}
