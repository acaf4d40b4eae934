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
            found.into_iter().map(listen).collect()
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

/// What IPv4 would not do better.
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
        if listeners[0].local_addr().unwrap().is_ipv6() {
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
}
