//! Tells systemd that the process is alive, after asking it: HTTP and the broker answer over their sockets, and the
//! storage has done what it was given. A disk that hangs stops the storage, and then systemd starts the process again.

use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
use std::net::SocketAddr;
use std::time::Duration;

use storage::Storage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::notify;

/// `ApiVersions` version 0 without a client id: length, key 18, version, correlation id, no client.
const API_VERSIONS: &[u8] = &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];

/// Asks three times in each period that systemd allows, until `stop`.
pub(crate) async fn run(
    limit: Duration,
    http: SocketAddr,
    broker: Option<(SocketAddr, Storage)>,
    stop: CancellationToken,
) {
    let period = limit / 3;
    loop {
        match tokio::time::timeout(period, probe(http, broker.as_ref())).await {
            Ok(Ok(())) => notify::alive(),
            Ok(Err(error)) => tracing::warn!(%error, "no answer to the watchdog's probe"),
            Err(error) => {
                tracing::warn!(%error, "no answer to the watchdog's probe in time");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn probe(http: SocketAddr, broker: Option<&(SocketAddr, Storage)>) -> std::io::Result<()> {
    ask(http, b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let Some((kafka, storage)) = broker else { return Ok(()) };
    ask_broker(*kafka).await?;
    let (tell, told) = oneshot::channel();
    // Nobody waits any more once the probe has timed out.
    storage.probe(Box::new(move |()| tell.send(()).unwrap_or_default()));
    told.await.map_err(std::io::Error::other)
}

/// A broker that has no room for another connection is alive all the same: it hangs up at once.
async fn ask_broker(address: SocketAddr) -> std::io::Result<()> {
    match ask(address, API_VERSIONS).await {
        Err(error) if matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe) => {
            Ok(())
        }
        asked => asked,
    }
}

/// Any first four bytes are an answer.
async fn ask(address: SocketAddr, question: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(question).await?;
    stream.read_exact(&mut [0; 4]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_listener_that_never_answers_is_not_alive() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let asked =
            tokio::time::timeout(Duration::from_millis(200), ask(address, API_VERSIONS)).await;
        assert!(asked.is_err());
        drop(silent);
        assert!(ask_broker(address).await.is_err());
    }

    #[tokio::test]
    async fn a_broker_that_has_no_room_is_alive() {
        let full = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = full.local_addr().unwrap();
        let (asked, hung_up) =
            tokio::join!(ask_broker(address), async { full.accept().await.map(drop) });
        hung_up.unwrap();
        asked.unwrap();
    }
}
