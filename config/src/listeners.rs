use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Kafka's `listeners`: a list of `PROTOCOL://host:port`, each protocol once. A bare `host:port` is
/// `PLAINTEXT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Listeners {
    pub plaintext: SocketAddr,
    pub ssl: Option<SocketAddr>,
}

/// Kafka's `advertised.listeners`, in the same form; what is not named is advertised as it listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdvertisedListeners {
    pub plaintext: Option<String>,
    pub ssl: Option<String>,
}

/// Why a text is no list of listeners.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenersError {
    #[error("`{0}` is not a protocol that Ottla has, which are PLAINTEXT and SSL")]
    Protocol(String),
    #[error("{0} is there twice")]
    Twice(&'static str),
    #[error("`{0}` is not an address and port such as 127.0.0.1:9092")]
    Address(String),
    #[error("there is no PLAINTEXT among them, which the services use")]
    NoPlaintext,
}

const PLAINTEXT: &str = "PLAINTEXT";
const SSL: &str = "SSL";

impl Listeners {
    /// Every address, with nothing said of how it is spoken to.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        std::iter::once(self.plaintext).chain(self.ssl)
    }
}

impl FromStr for Listeners {
    type Err = ListenersError;

    fn from_str(text: &str) -> Result<Self, ListenersError> {
        let [plaintext, ssl] = by_protocol(text)?.map(|address| address.map(parsed).transpose());
        Ok(Self { plaintext: plaintext?.ok_or(ListenersError::NoPlaintext)?, ssl: ssl? })
    }
}

fn parsed(address: &str) -> Result<SocketAddr, ListenersError> {
    address.parse().map_err(|_error| ListenersError::Address(address.to_owned()))
}

/// The addresses of PLAINTEXT and SSL.
fn by_protocol(text: &str) -> Result<[Option<&str>; 2], ListenersError> {
    let [mut plaintext, mut ssl] = [None, None];
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, address) = part.split_once("://").unwrap_or((PLAINTEXT, part));
        let (place, name) = match name {
            PLAINTEXT => (&mut plaintext, PLAINTEXT),
            SSL => (&mut ssl, SSL),
            other => return Err(ListenersError::Protocol(other.to_owned())),
        };
        if place.replace(address).is_some() {
            return Err(ListenersError::Twice(name));
        }
    }
    Ok([plaintext, ssl])
}

impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PLAINTEXT}://{}", self.plaintext)?;
        self.ssl.map_or(Ok(()), |ssl| write!(f, ",{SSL}://{ssl}"))
    }
}

impl TryFrom<String> for Listeners {
    type Error = ListenersError;

    fn try_from(text: String) -> Result<Self, ListenersError> {
        text.parse()
    }
}

impl From<Listeners> for String {
    fn from(listeners: Listeners) -> Self {
        listeners.to_string()
    }
}

impl TryFrom<String> for AdvertisedListeners {
    type Error = ListenersError;

    fn try_from(text: String) -> Result<Self, ListenersError> {
        let [plaintext, ssl] = by_protocol(&text)?.map(|address| address.map(str::to_owned));
        Ok(Self { plaintext, ssl })
    }
}

impl From<AdvertisedListeners> for String {
    fn from(listeners: AdvertisedListeners) -> Self {
        let plaintext = listeners.plaintext.map(|address| format!("{PLAINTEXT}://{address}"));
        let ssl = listeners.ssl.map(|address| format!("{SSL}://{address}"));
        let parts: Vec<String> = plaintext.into_iter().chain(ssl).collect();
        parts.join(",")
    }
}
