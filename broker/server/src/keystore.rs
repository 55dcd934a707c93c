//! What clients of a TLS listener are shown: a private key and the chain of its certificates.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;

/// By this a key that has a password is known.
const ENCRYPTED: &[u8] = b"ENCRYPTED PRIVATE KEY";

/// A private key and the certificates from the server's own to its authority's, checked.
#[derive(Clone)]
pub struct Keystore(Arc<ServerConfig>);

/// Why a text is no keystore.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// A section is broken.
    #[error("it is not valid PEM: {0}")]
    Pem(PemFault),
    /// No section is a certificate.
    #[error("it holds no certificate")]
    NoCertificate,
    /// No section is a private key.
    #[error("it holds no private key")]
    NoKey,
    /// The only private key is one with a password.
    #[error("its private key has a password")]
    Encrypted,
    /// Key and certificates do not make a server.
    #[error("its key and certificates cannot be used ({0})")]
    Unfit(rustls::Error),
}

/// What is wrong with a section, without a word of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// It has no end.
    #[error("a section has no END line")]
    NoEnd,
    /// Its first line is none.
    #[error("a BEGIN line does not end with five dashes")]
    BadBegin,
    /// What is in it is not base64.
    #[error("a section is not base64")]
    NotBase64,
    /// Something else.
    #[error("it cannot be read")]
    Unreadable,
}

impl From<PemError> for PemFault {
    fn from(error: PemError) -> Self {
        match error {
            PemError::MissingSectionEnd { .. } => Self::NoEnd,
            PemError::IllegalSectionStart { .. } => Self::BadBegin,
            PemError::Base64Decode(_) => Self::NotBase64,
            _ => Self::Unreadable,
        }
    }
}

impl Keystore {
    /// Reads Kafka's keystore of the type `PEM`: one private key, and the certificate chain, the
    /// server's own first.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeystoreError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.map_err(|error| KeystoreError::Pem(error.into()))?;
        if chain.is_empty() {
            return Err(KeystoreError::NoCertificate);
        }
        let is_encrypted = || pem.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED);
        let key = match PrivateKeyDer::from_pem_slice(pem) {
            Ok(key) => key,
            Err(PemError::NoItemsFound) if is_encrypted() => return Err(KeystoreError::Encrypted),
            Err(PemError::NoItemsFound) => return Err(KeystoreError::NoKey),
            Err(error) => return Err(KeystoreError::Pem(error.into())),
        };
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .map_err(KeystoreError::Unfit)?;
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.0).into()
    }
}

/// The same one, not one with the same content.
impl PartialEq for Keystore {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Without the key.
impl fmt::Debug for Keystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keystore")
    }
}

#[cfg(test)]
mod tests {
    use super::{Keystore, KeystoreError};

    const WHOLE: &str = include_str!("../../../tests/tls/keystore.pem");
    const CA: &str = include_str!("../../../tests/tls/ca.pem");

    fn refusal(pem: &str) -> String {
        Keystore::from_pem(pem.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_key_and_its_certificate_make_a_keystore_in_either_order() {
        let at = WHOLE.find("-----BEGIN CERTIFICATE").unwrap();
        let (key, certificate) = WHOLE.split_at(at);
        Keystore::from_pem(WHOLE.as_bytes()).unwrap();
        Keystore::from_pem([certificate, key].concat().as_bytes()).unwrap();
        assert_eq!(refusal(key), "it holds no certificate");
        assert_eq!(refusal(certificate), "it holds no private key");
        let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert_eq!(refusal(&(certificate.to_owned() + &locked)), "its private key has a password");
        assert_eq!(refusal("no PEM at all"), "it holds no certificate");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let key = WHOLE.split("-----BEGIN CERTIFICATE").next().unwrap();
        let error = Keystore::from_pem((key.to_owned() + CA).as_bytes()).unwrap_err();
        assert!(matches!(error, KeystoreError::Unfit(_)), "{error}");
        let torn = WHOLE.replace("-----END CERTIFICATE-----", "");
        assert_eq!(refusal(&torn), "it is not valid PEM: a section has no END line");
    }

    #[test]
    fn a_refusal_says_nothing_of_what_is_in_the_file() {
        let in_one_line = WHOLE.trim().replace('\n', " ");
        let with_escapes = WHOLE.replace('\n', "\\n");
        let unreadable = WHOLE.replace("\n-----END PRIVATE", "%\n-----END PRIVATE");
        for (pem, why) in [
            (in_one_line, "a section has no END line"),
            (with_escapes, "a BEGIN line does not end with five dashes"),
            (unreadable, "a section is not base64"),
        ] {
            assert_eq!(refusal(&pem), format!("it is not valid PEM: {why}"));
        }
    }
}
