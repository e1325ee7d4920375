//! Ports for daemons of this machine.
//!
//! Never keeps a port: whoever asks binds it. Always: the kernel gives the
//! ports found here to no outgoing connection, so that a daemon which was killed finds its own free.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

use crate::random;

/// Below are ports of well-known services.
const PORT_MIN: u16 = 10_000;
/// Where the kernel takes ports of outgoing connections from (`ip(7)`).
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Its default.
const EPHEMERAL_DEFAULT: RangeInclusive<u16> = 32_768..=60_999;
/// Ports looked at for each that is found.
const TRIES: usize = 1000;

/// So many different ports of the loopback interface at which nobody listens now, by UDP or TCP.
///
/// # Errors
/// Those of the random generator; `AddrInUse` when hardly a port is free, or every one is for outgoing connections.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let outgoing = ephemeral();
    let mut found = Vec::with_capacity(count);
    for _ in 0..count.saturating_mul(TRIES) {
        if found.len() == count {
            break;
        }
        let port = PORT_MIN + (random::number()? % u64::from(u16::MAX - PORT_MIN)) as u16;
        if !outgoing.contains(&port) && !found.contains(&port) && is_free(port) {
            found.push(port);
        }
    }
    if found.len() == count {
        return Ok(found);
    }
    let (first, last) = outgoing.into_inner();
    let sentence = format!("no free port from {PORT_MIN} up outside of {first} to {last} (see {EPHEMERAL})");
    Err(io::Error::new(io::ErrorKind::AddrInUse, sentence))
}

fn is_free(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn ephemeral() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string(EPHEMERAL).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => EPHEMERAL_DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::UdpSocket;

    use super::{ephemeral, free_ports};

    #[test]
    fn ports_differ_are_free_and_the_kernel_gives_them_to_nobody_else() {
        let ports = free_ports(20).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 20);
        let outgoing = ephemeral();
        for port in ports {
            assert!(!outgoing.contains(&port), "{port} is for outgoing connections ({outgoing:?})");
            let _ = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        }
    }
}
