//! `Idempotency-Key`: a write that is repeated within 24 hours has the same answer and no second effect.

use axum::{
    body::Body,
    extract::FromRequestParts,
    http::{HeaderName, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ApiError;
use crate::{Row, View, Walk, tx::Tx};

/// The request header.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const KEY_MAX: usize = 255;
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);
/// Expired answers that one command clears away beside its work.
const SWEPT_AT_ONCE: usize = 16;

/// The header's value, if it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(IDEMPOTENCY_KEY) else { return Ok(Self(None)) };
        match value.to_str() {
            Ok(key) if (1..=KEY_MAX).contains(&key.len()) => Ok(Self(Some(key.to_owned()))),
            Ok(_) | Err(_) => Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "malformed_idempotency_key",
                "an Idempotency-Key is 1 to 255 visible ASCII characters",
            )
            .field("Idempotency-Key")),
        }
    }
}

/// What an earlier request with the same key was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    key: String,
    body_hash: String,
    status: u16,
    etag: Option<u64>,
    body: Option<serde_json::Value>,
    expires_at: Timestamp,
}

const BY_EXPIRY: &str = "expiry";

impl Row for Answer {
    const TABLE: &'static str = "answers";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        self.key.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![(BY_EXPIRY, expiry(self.expires_at))]
    }
}

fn expiry(at: Timestamp) -> String {
    format!("{:012}", at.as_second())
}

/// What a command answers, in a form that can be kept and given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: StatusCode,
    pub etag: Option<u64>,
    pub body: Option<serde_json::Value>,
}

impl Reply {
    /// An answer with a JSON body.
    pub fn json(status: StatusCode, body: &impl Serialize) -> Self {
        Self { status, etag: None, body: serde_json::to_value(body).ok() }
    }

    /// 204.
    pub fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, etag: None, body: None }
    }

    #[must_use]
    pub fn with_etag(mut self, version: u64) -> Self {
        self.etag = Some(version);
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = match &self.body {
            Some(body) => (self.status, axum::Json(body)).into_response(),
            None => (self.status, Body::empty()).into_response(),
        };
        if let Some(version) = self.etag {
            let (name, value) = super::ETag(version).header();
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The key was used for a request with another body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this Idempotency-Key belongs to another request")]
pub struct Reused;

impl From<Reused> for ApiError {
    fn from(_: Reused) -> Self {
        ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "this Idempotency-Key was used for a request with another body; take a new one",
        )
        .field("Idempotency-Key")
    }
}

/// One write that may be a repetition. Make it from the request, use it inside the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once(Option<(String, String)>);

impl Once {
    /// `scope` is what the key is unique within: the person and the route, such as `7 POST /tasks`. `body` is the
    /// request's content, as parsed or as bytes.
    pub fn new(key: IdempotencyKey, scope: &str, body: &impl Serialize) -> Self {
        Self(key.0.map(|key| {
            let body = serde_json::to_vec(body).unwrap_or_default();
            (
                format!("{scope} {key}").replace('\0', ""),
                super::trace::hex_of(&Sha256::digest(&body)),
            )
        }))
    }

    /// Runs `command` unless an earlier request had the same key; then its answer is given again. Only success is kept.
    pub fn run<E: From<Reused>>(
        &self,
        tx: &mut Tx<'_>,
        command: impl FnOnce(&mut Tx<'_>) -> Result<Reply, E>,
    ) -> Result<Reply, E> {
        let Some((key, body_hash)) = &self.0 else { return command(tx) };
        if let Some(reply) = self.again(tx.get(key), tx.now())? {
            return Ok(reply);
        }
        let reply = command(tx)?;
        sweep(tx);
        tx.put(&Answer {
            key: key.clone(),
            body_hash: body_hash.clone(),
            status: reply.status.as_u16(),
            etag: reply.etag,
            body: reply.body.clone(),
            expires_at: tx.now().saturating_add(KEPT_FOR).unwrap_or(Timestamp::MAX),
        });
        Ok(reply)
    }

    /// Whether there was an earlier request with the same key, whatever its body. For handlers that ask something of the
    /// caller before the command, such as the password, which that request may have changed.
    pub fn is_known(&self, view: &View, now: Timestamp) -> bool {
        let kept = self.0.as_ref().and_then(|(key, _)| view.get::<Answer>(key));
        kept.is_some_and(|answer| answer.expires_at > now)
    }

    fn again(&self, kept: Option<Answer>, now: Timestamp) -> Result<Option<Reply>, Reused> {
        let Some(answer) = kept.filter(|answer| answer.expires_at > now) else { return Ok(None) };
        if self.0.as_ref().is_none_or(|(_, body_hash)| answer.body_hash != *body_hash) {
            return Err(Reused);
        }
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
        Ok(Some(Reply { status, etag: answer.etag, body: answer.body }))
    }
}

/// Clears some of the answers away that have expired, the oldest first.
fn sweep(tx: &mut Tx<'_>) {
    let oldest = Walk { limit: SWEPT_AT_ONCE, ..Walk::default() };
    for (_, answer) in tx.committed().walk::<Answer>(BY_EXPIRY, oldest) {
        if answer.expires_at <= tx.now() {
            tx.delete::<Answer>(&answer.key);
        }
    }
}
