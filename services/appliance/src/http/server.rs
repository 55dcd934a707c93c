use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Connections that may be open at once on one port.
const CONNECTIONS: usize = 1024;

/// How long the head of a request may take; also how long an idle connection is kept.
const HEAD: Duration = Duration::from_secs(30);

/// How long requests that are being answered may take at a stop.
const DRAIN: Duration = Duration::from_millis(400);

/// How long accepting rests after the system refused a connection, as when descriptors run out.
const REST: Duration = Duration::from_millis(50);

/// A listener whose connections end when it is stopped.
#[derive(Debug)]
pub(crate) struct Server {
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Server {
    pub(crate) fn start(listener: TcpListener, router: Router) -> Self {
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(accept(listener, router, stop.clone()));
        Self { stop, task }
    }

    /// Accepts nothing more, lets answers out for a moment, closes everything.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    let free = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = free.clone().acquire_owned() => permit,
            () = stop.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, ConnectInfo(peer), router, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(REST).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        connections.shutdown().await;
    }
}

type Peer = ConnectInfo<std::net::SocketAddr>;

async fn connection(stream: TcpStream, peer: Peer, router: Router, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection is gone already");
        return;
    }
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP connection ended");
    }
}
