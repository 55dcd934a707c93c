//! The doors that clients come in by, each with the address that they are told.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::protocol::StrBytes;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::broker::StartError;
use crate::seldom::Seldom;
use crate::transport::Transport;
use crate::{Config, Keystore};

/// The kernel holds twice as much of answers that a client has not taken. More makes a fetch on the same machine
/// slower, and lets each slow reader hold megabytes.
const SEND_BUFFER_BYTES: u32 = 128 << 10;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A bound socket.
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    door: Arc<Door>,
}

/// What the connections of one listener share.
pub(crate) struct Door {
    /// The host and port that clients are told.
    pub(crate) advertised: (StrBytes, i32),
    tls: Option<TlsAcceptor>,
    failed_handshakes: Seldom,
    /// Connections that ended by their client's fault.
    pub(crate) misbehaved: Seldom,
}

/// All listeners of a broker, at most one of a kind.
pub(crate) struct Listeners {
    pub(crate) plaintext: Listener,
    pub(crate) ssl: Option<Listener>,
}

/// A connection before anything was said on it.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) door: Arc<Door>,
}

/// Why there is no TLS with a client.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("the client does not speak TLS")]
    NotTls,
    #[error("the TLS handshake took too long")]
    Slow,
    #[error("the client hung up in the TLS handshake")]
    Torn,
    #[error("the TLS handshake failed: {0}")]
    Failed(io::Error),
}

impl Listeners {
    /// Binds what the configuration names.
    pub(crate) fn bind(config: &Config) -> Result<Self, StartError> {
        let plaintext = Listener::bind(config.kafka, config.advertised.as_ref(), None)?;
        let ssl = match &config.ssl {
            Some(ssl) => {
                let keystore = Some(&ssl.keystore);
                Some(Listener::bind(ssl.address, ssl.advertised.as_ref(), keystore)?)
            }
            None => None,
        };
        Ok(Self { plaintext, ssl })
    }

    /// The next connection at any of them.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match &self.ssl {
            Some(ssl) => tokio::select! {
                accepted = self.plaintext.accept() => accepted,
                accepted = ssl.accept() => accepted,
            },
            None => self.plaintext.accept().await,
        }
    }
}

/// The accepted sockets inherit what is set here.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart is not refused for the connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Listener {
    fn bind(
        address: SocketAddr,
        advertised: Option<&String>,
        keystore: Option<&Keystore>,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address, source };
        let socket = listen(address).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let text = advertised.cloned().unwrap_or_else(|| address.to_string());
        let Some(advertised) = host_and_port(&text) else {
            return Err(StartError::Advertised(text));
        };
        let tls = keystore.map(Keystore::acceptor);
        let (failed_handshakes, misbehaved) = (Seldom::default(), Seldom::default());
        let door = Arc::new(Door { advertised, tls, failed_handshakes, misbehaved });
        Ok(Self { socket, address, door })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    async fn accept(&self) -> io::Result<Accepted> {
        let (stream, peer) = self.socket.accept().await?;
        Ok(Accepted { stream, peer, door: Arc::clone(&self.door) })
    }
}

impl Accepted {
    /// What requests may be read from: at once, or after a handshake of at most `limit`.
    pub(crate) async fn open(self, limit: Duration) -> Option<Transport> {
        let Self { stream, peer, door } = self;
        let Some(tls) = &door.tls else { return Some(Transport::Plain(stream)) };
        let why = match timeout(limit, tls.accept(stream)).await {
            Ok(Ok(stream)) => return Some(Transport::tls(stream)),
            Ok(Err(error)) => HandshakeError::from(error),
            Err(_elapsed) => HandshakeError::Slow,
        };
        if !matches!(why, HandshakeError::Torn) && door.failed_handshakes.now() {
            tracing::warn!(%peer, %why, "connection closed");
        } else {
            tracing::debug!(%peer, %why, "connection closed");
        }
        None
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (tls, error.kind()) {
            (Some(rustls::Error::InvalidMessage(_)), _) => Self::NotTls,
            (_, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => Self::Torn,
            _ => Self::Failed(error),
        }
    }
}

/// Whether clients can be told this: a `host:port`, in brackets if the host is an IPv6 address, and
/// not one that stands for all addresses.
pub fn is_advertisable(address: &str) -> bool {
    host_and_port(address).is_some()
}

fn host_and_port(text: &str) -> Option<(StrBytes, i32)> {
    let (host, port) = text.rsplit_once(':')?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_of_host),
    };
    let host = bracketed.unwrap_or(host);
    let is_wildcard = host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    (is_host && !is_wildcard).then(|| (StrBytes::from_string(host.to_owned()), i32::from(port)))
}

fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::is_advertisable;

    #[test]
    fn clients_are_told_a_host_and_a_port_and_nothing_else() {
        for address in ["kafka:9092", "10.0.0.7:9092", "a_b-c.example.com:1", "[fd00::7]:9092"] {
            assert!(is_advertisable(address), "{address}");
        }
        let wrong = ["", "kafka", "kafka:0", ":9092", "0.0.0.0:9092", "[::]:9092", "fd00::7:9092"];
        for address in wrong.into_iter().chain(["http://kafka:9092", "[kafka]:1", "kafka:65536"]) {
            assert!(!is_advertisable(address), "{address}");
        }
    }
}
