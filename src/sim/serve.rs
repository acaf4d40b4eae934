//! The simulated API server on a socket: plain HTTP/1.1 on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::api::ApiServer;

/// A served API server. Dropping it closes the listener and cuts every connection, as a crash does.
pub struct Served {
    address: SocketAddr,
    // One task that holds all the others.
    _tasks: JoinSet<Infallible>,
}

impl Served {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, as in `http://127.0.0.1:40123`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl ApiServer {
    /// Serves on a bound listener until the value is dropped. The same server can be served again.
    ///
    /// # Errors
    /// If the listener has no local address.
    pub fn serve(&self, listener: TcpListener) -> std::io::Result<Served> {
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, self.router()));
        Ok(Served { address, _tasks: tasks })
    }
}

async fn accept(listener: TcpListener, router: Router) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone()));
                }
                // Out of file descriptors: another try may find one.
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let _ = stream.set_nodelay(true);
    // A connection's error is its client's affair.
    let _ =
        http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}
