use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::connect_info::ConnectInfo;
use axum::http::StatusCode;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::guests::{Guest, Guests};
use super::routes::refusal;

/// What one port allows.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections that may be open at once. For one more, the one that was quiet for the longest is closed: so nobody
    /// who holds connections open keeps others out, the watchdog and the services among them.
    connections: usize,
    /// From the head of a request, whose body is still to come, to its answer.
    request: Duration,
}

const LIMITS: Limits = Limits { connections: 1024, request: Duration::from_secs(30) };

/// The largest body. A task whose every field is as long as is allowed has half of it.
pub(super) const BODY_BYTES: usize = 256 * 1024;

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
        let router = router.layer(DefaultBodyLimit::max(BODY_BYTES));
        let host = Host { router, limits: LIMITS, guests: Guests::default(), stop: stop.clone() };
        task.spawn(accept(listener, host));
        Self { stop, task }
    }

    /// Accepts nothing more, lets answers out for a moment, closes everything.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }
}

/// What all connections of a port share.
#[derive(Clone)]
struct Host {
    router: Router,
    limits: Limits,
    guests: Guests,
    stop: CancellationToken,
}

async fn accept(listener: TcpListener, host: Host) {
    let free = Arc::new(Semaphore::new(host.limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = host.stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                if free.available_permits() == 0 {
                    host.guests.close_the_quietest();
                }
                let permit = tokio::select! {
                    permit = free.clone().acquire_owned() => permit,
                    () = host.stop.cancelled() => break,
                };
                let (host, guest) = (host.clone(), host.guests.enter());
                connections.spawn(async move {
                    connection(stream, peer, host, guest).await;
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

async fn connection(stream: TcpStream, peer: SocketAddr, host: Host, guest: Guest) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection is gone already");
        return;
    }
    let service = hyper::service::service_fn(|mut request: hyper::Request<Incoming>| {
        guest.asks();
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = host.router.clone().call(request);
        async {
            let answered = tokio::time::timeout(host.limits.request, answer).await;
            answered.unwrap_or_else(|_late| Ok::<_, Infallible>(too_late()))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = guest.must_leave() => return tracing::debug!("HTTP connection made room"),
        () = host.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

fn too_late() -> Response {
    let message = "the body of the request, or its answer, took too long";
    refusal(StatusCode::REQUEST_TIMEOUT, "too_late", message)
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const POST: &str =
        "POST /body HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
    const GO_ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";

    struct Port {
        address: SocketAddr,
        _tasks: JoinSet<()>,
    }

    impl Port {
        async fn open(limits: Limits) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let router = Router::new()
                .route("/", get(async || "here"))
                .route("/body", post(async |_: Bytes| "read"));
            let (guests, stop) = (Guests::default(), CancellationToken::new());
            let mut tasks = JoinSet::new();
            tasks.spawn(accept(listener, Host { router, limits, guests, stop }));
            Self { address, _tasks: tasks }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }
    }

    /// Sends `question` and reads until `end`.
    async fn ask(stream: &mut TcpStream, question: &str, end: &str) {
        stream.write_all(question.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with(end) {
            let mut part = [0; 512];
            let length = stream.read(&mut part).await.unwrap();
            assert!(length > 0, "closed after {answer:?}");
            answer.push_str(std::str::from_utf8(&part[..length]).unwrap());
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let port = Port::open(Limits { request: Duration::from_millis(20), ..LIMITS }).await;
        let mut stalled = port.connect().await;
        ask(&mut stalled, POST, GO_ON).await;
        let mut answer = String::new();
        let answered = stalled.read_to_string(&mut answer);
        tokio::time::timeout(LIMITS.request / 3, answered).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }

    #[tokio::test]
    async fn for_one_more_than_there_is_room_for_the_quietest_leaves() {
        let port = Port::open(Limits { connections: 2, ..LIMITS }).await;
        let (mut asking, mut stalled) = (port.connect().await, port.connect().await);
        ask(&mut stalled, POST, GO_ON).await;
        ask(&mut asking, GET, "here").await;
        let mut third = port.connect().await;
        let asked = ask(&mut third, GET, "here");
        tokio::time::timeout(LIMITS.request / 3, asked).await.unwrap();
        ask(&mut asking, GET, "here").await;
        assert_eq!(stalled.read(&mut [0]).await.unwrap_or(0), 0, "it was not closed");
    }
}
