//! Secrets that are handed out once and kept only as their hash.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;
/// Characters; nothing longer is worth hashing.
const TOKEN_MAX_CHARS: usize = 128;

/// A bearer secret of 256 random bits. It has no `Debug` that shows it and is never stored.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// Draws a new one from the system's randomness.
    pub(crate) fn draw() -> Result<Token, getrandom::Error> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Token(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The text to hand out.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored.
    pub(crate) fn hash(&self) -> String {
        hash(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The stored form of a token that came from outside: SHA-256 in unpadded base64url. A token holds
/// 256 random bits, so neither salt nor slowness is needed. `None` if it cannot be a token.
pub(crate) fn presented(raw: &str) -> Option<String> {
    (!raw.is_empty() && raw.len() <= TOKEN_MAX_CHARS).then(|| hash(raw))
}

fn hash(raw: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(raw.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_again_by_its_hash_alone() {
        let token = Token::draw().unwrap();
        assert_eq!(token.reveal().len(), 43);
        assert_eq!(presented(token.reveal()), Some(token.hash()));
        assert_ne!(token.reveal(), token.hash());
        assert_ne!(token.hash(), Token::draw().unwrap().hash());
    }

    #[test]
    fn a_token_does_not_show_itself() {
        let token = Token::draw().unwrap();
        assert!(!format!("{token:?}").contains(token.reveal()));
    }

    #[test]
    fn what_cannot_be_a_token_is_not_hashed() {
        assert_eq!(presented(""), None);
        assert_eq!(presented(&"x".repeat(129)), None);
    }
}
