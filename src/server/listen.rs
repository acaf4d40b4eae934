//! Sockets to listen on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::options::{ListenAddress, ListenHost};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 256;

/// A port is taken, an address is not this host's, or the like.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct ListenError {
    /// As it was asked for.
    pub address: ListenAddress,
    /// Why not. No source in the sense of errors: it is part of the sentence.
    pub reason: io::Error,
}

/// Binds all addresses. Call it inside the runtime.
///
/// # Errors
/// If one of them can't be listened on.
pub fn bind(addresses: &[ListenAddress]) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = Vec::new();
    for address in addresses {
        let bound = bind_one(address).map_err(|reason| ListenError { address: address.clone(), reason })?;
        listeners.extend(bound);
    }
    Ok(listeners)
}

fn bind_one(address: &ListenAddress) -> io::Result<Vec<TcpListener>> {
    match &address.host {
        ListenHost::Any => any(address.port).map(|listener| vec![listener]),
        ListenHost::Ip(ip) => listen(SocketAddr::new(*ip, address.port)).map(|listener| vec![listener]),
        ListenHost::Name(name) => {
            let found: Vec<_> = (name.as_str(), address.port).to_socket_addrs()?.collect();
            all(&found)
        }
    }
}

/// IPv6 and IPv4 in one socket; IPv4 alone where the host has no IPv6.
fn any(port: u16) -> io::Result<TcpListener> {
    match listen(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)) {
        Err(error) if !is_final(&error) => listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
        result => result,
    }
}

/// Those of a name's addresses that this host has: `localhost` may be ::1 too where IPv6 is off.
fn all(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let (mut listeners, mut missing) = (Vec::new(), None);
    for address in addresses {
        match listen(*address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => missing = Some(error),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// What another address would not do better.
fn is_final(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Only the unspecified address takes IPv4 too; the system's default may say otherwise.
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> ListenAddress {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn the_default_takes_both_families() {
        let listeners = bind(&[address(":0")]).unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        // The socket may be of IPv6 although no interface is.
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            tokio::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_one_line() {
        let first = bind(&[address("127.0.0.1:0")]).unwrap();
        let taken = first[0].local_addr().unwrap();
        let error = bind(&[address(&taken.to_string())]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {taken}: Address already in use (os error 98)")
        );
    }

    #[tokio::test]
    async fn names_are_resolved() {
        let listeners = bind(&[address("localhost:0")]).unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap().ip().is_loopback()));
        assert!(!listeners.is_empty());
    }

    #[tokio::test]
    async fn a_name_is_listened_on_where_this_host_has_its_addresses() {
        // For documentation: nobody has it.
        let (own, foreign) = (SocketAddr::from(([127, 0, 0, 1], 0)), SocketAddr::from(([192, 0, 2, 1], 0)));
        let listeners = all(&[foreign, own, foreign]).unwrap();
        let found: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().ip()).collect();
        assert_eq!(found, [own.ip()]);
        assert_eq!(all(&[foreign]).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
        let taken = listeners[0].local_addr().unwrap();
        assert_eq!(all(&[own, taken]).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
