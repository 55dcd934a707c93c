use std::fmt;

use subtle::ConstantTimeEq;
use wire::ErrorCode;

use crate::Principal;

/// The mechanisms a client may choose.
pub const MECHANISMS: &[&str] = &["PLAIN"];

const SERVICE_USER: &[u8] = b"service";

/// How far a connection's SASL exchange has come. A connection may go through it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sasl {
    step: Step,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Idle,
    Handshaken {
        raw_tokens: bool,
    },
    Refused,
}

/// What a refused client is told; it does not say whether the user or the password was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationError {
    /// There was no handshake before.
    UnexpectedToken,
    MalformedToken,
    WrongCredentials,
}

impl AuthenticationError {
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::UnexpectedToken => ErrorCode::ILLEGAL_SASL_STATE,
            Self::MalformedToken | Self::WrongCredentials => ErrorCode::SASL_AUTHENTICATION_FAILED,
        }
    }
}

impl fmt::Display for AuthenticationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnexpectedToken => "SaslAuthenticate came before SaslHandshake",
            Self::MalformedToken => "the PLAIN message is malformed",
            Self::WrongCredentials => "invalid username or password",
        })
    }
}

impl std::error::Error for AuthenticationError {}

impl Sasl {
    /// A client chooses a mechanism. After a handshake of version 0 its tokens come as bare
    /// frames. An unknown mechanism leaves the connection as it was.
    pub fn handshake(&mut self, mechanism: &str, raw_tokens: bool) -> ErrorCode {
        if MECHANISMS.contains(&mechanism) {
            self.step = Step::Handshaken { raw_tokens };
            ErrorCode::NONE
        } else {
            ErrorCode::UNSUPPORTED_SASL_MECHANISM
        }
    }

    /// Whether the next frame is a token without a request around it.
    #[must_use]
    pub fn expects_raw_token(&self) -> bool {
        self.step == Step::Handshaken { raw_tokens: true }
    }

    /// Whether the last exchange failed: the connection is to be closed after the answer.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.step == Step::Refused
    }

    /// The client's PLAIN message; without a `service_key` nobody is let in.
    pub fn authenticate(
        &mut self,
        token: &[u8],
        service_key: Option<&[u8]>,
    ) -> Result<Principal, AuthenticationError> {
        let outcome = match self.step {
            Step::Handshaken { .. } => plain(token, service_key),
            Step::Idle | Step::Refused => Err(AuthenticationError::UnexpectedToken),
        };
        self.step = if outcome.is_ok() { Step::Idle } else { Step::Refused };
        outcome
    }
}

/// RFC 4616: authorization identity, user and password, with a NUL between them.
fn plain(token: &[u8], service_key: Option<&[u8]>) -> Result<Principal, AuthenticationError> {
    let mut parts = token.splitn(4, |byte| *byte == 0);
    let (Some(authorize_as), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(AuthenticationError::MalformedToken);
    };
    if user.is_empty() || password.is_empty() {
        return Err(AuthenticationError::MalformedToken);
    }
    let right_user = user == SERVICE_USER && (authorize_as.is_empty() || authorize_as == user);
    let right_password =
        service_key.is_some_and(|key| !key.is_empty() && bool::from(key.ct_eq(password)));
    if right_user && right_password {
        Ok(Principal::Service)
    } else {
        Err(AuthenticationError::WrongCredentials)
    }
}

#[cfg(test)]
mod tests {
    use super::{AuthenticationError, Sasl};
    use crate::Principal;
    use wire::ErrorCode;

    const KEY: Option<&[u8]> = Some(b"secret");

    fn after_handshake() -> Sasl {
        let mut sasl = Sasl::default();
        assert_eq!(sasl.handshake("PLAIN", false), ErrorCode::NONE);
        sasl
    }

    #[test]
    fn the_service_key_makes_a_connection_the_services() {
        for token in [b"\0service\0secret".as_slice(), b"service\0service\0secret"] {
            assert_eq!(after_handshake().authenticate(token, KEY), Ok(Principal::Service));
        }
    }

    #[test]
    fn nothing_else_is_let_in() {
        let wrong = Err(AuthenticationError::WrongCredentials);
        let malformed = Err(AuthenticationError::MalformedToken);
        for (token, key, outcome) in [
            (b"\0service\0secreT".as_slice(), KEY, wrong),
            (b"\0service\0secret2", KEY, wrong),
            (b"\0admin\0secret", KEY, wrong),
            (b"admin\0service\0secret", KEY, wrong),
            (b"\0service\0secret", None, wrong),
            (b"\0service\0secret", Some(b"".as_slice()), wrong),
            (b"\0service\0", KEY, malformed),
            (b"\0\0secret", KEY, malformed),
            (b"\0service", KEY, malformed),
            (b"\0service\0secret\0", KEY, malformed),
            (b"", KEY, malformed),
        ] {
            let mut sasl = after_handshake();
            assert_eq!(sasl.authenticate(token, key), outcome, "{token:?}");
            assert!(sasl.is_refused());
        }
    }

    #[test]
    fn a_token_without_a_handshake_is_refused() {
        let outcome = Sasl::default().authenticate(b"\0service\0secret", KEY);
        assert_eq!(outcome, Err(AuthenticationError::UnexpectedToken));
    }

    #[test]
    fn an_unknown_mechanism_leaves_the_connection_as_it_was() {
        let mut sasl = Sasl::default();
        assert_eq!(sasl.handshake("SCRAM-SHA-256", true), ErrorCode::UNSUPPORTED_SASL_MECHANISM);
        assert_eq!(sasl, Sasl::default());
        assert_eq!(sasl.handshake("PLAIN", true), ErrorCode::NONE);
        assert!(sasl.expects_raw_token());
    }
}
