//! Socket addresses in the kernel's form (`struct sockaddr_in`, `sockaddr_in6`, `sockaddr_un`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The family that an address names (`AF_`).
pub(crate) fn family(address: &[u8]) -> Option<i32> {
    address.first_chunk().map(|bytes| i32::from(u16::from_ne_bytes(*bytes)))
}

/// An internet address as a program passes it; `None`: it is cut off, or of another family.
pub(crate) fn parse(address: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*address.get(2..)?.first_chunk()?);
    let ip: IpAddr = match family(address)? {
        libc::AF_INET if address.len() >= size_of::<libc::sockaddr_in>() => {
            Ipv4Addr::from_octets(*address[4..].first_chunk()?).into()
        }
        libc::AF_INET6 => Ipv6Addr::from_octets(*address.get(8..)?.first_chunk()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// An address as people write it: `127.0.0.1:80`, `[::1]:80`, the path of a unix socket, or `@name` for
/// an abstract one.
pub(crate) fn describe(address: &[u8]) -> String {
    if let Some(internet) = parse(address) {
        return internet.to_string();
    }
    if family(address) != Some(libc::AF_UNIX) {
        return format!("family {}", family(address).unwrap_or(0));
    }
    match address.get(2..) {
        None | Some([]) => "unnamed".into(),
        Some([0, name @ ..]) => format!("@{}", String::from_utf8_lossy(name)),
        Some(path) => {
            let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(path).into_owned()
        }
    }
}

/// An address for a socket of this family (`AF_`): one of IPv6 takes an IPv4 address mapped.
pub(crate) fn to_bytes(address: SocketAddr, family: i32) -> Vec<u8> {
    let mut bytes = (family as u16).to_ne_bytes().to_vec();
    bytes.extend(address.port().to_be_bytes());
    match (address.ip(), family) {
        (IpAddr::V4(ip), libc::AF_INET) => {
            bytes.extend(ip.octets());
            bytes.extend([0; 8]);
        }
        (ip, _) => {
            let ip = match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            bytes.extend([0; 4]);
            bytes.extend(ip.octets());
            bytes.extend([0; 4]);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        for (text, family) in [
            ("192.0.2.1:443", libc::AF_INET),
            ("[2001:db8::1]:80", libc::AF_INET6),
            ("[::ffff:192.0.2.1]:65535", libc::AF_INET6),
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(parse(&to_bytes(address, family)), Some(address));
        }
        let mapped = to_bytes("127.0.0.1:1".parse().unwrap(), libc::AF_INET6);
        assert_eq!(parse(&mapped), Some("[::ffff:127.0.0.1]:1".parse().unwrap()));
    }

    #[test]
    fn what_is_cut_off_is_no_address() {
        let v4 = to_bytes("192.0.2.1:443".parse().unwrap(), libc::AF_INET);
        let v6 = to_bytes("[2001:db8::1]:443".parse().unwrap(), libc::AF_INET6);
        for length in 0..v4.len() {
            assert_eq!(parse(&v4[..length]), None, "{length}");
        }
        for length in 0..24 {
            assert_eq!(parse(&v6[..length]), None, "{length}");
        }
        // The scope identifier came later (RFC 2133), and the kernel does without it too.
        assert!(parse(&v6[..24]).is_some());
        assert_eq!(parse(&[1, 0, b'/', b'x', 0]), None);
    }
}
