//! Versions of a thing, and writes that depend on them (RFC 9110, section 13).

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponseParts, ResponseParts},
};

use super::ApiError;

/// The strong tag of a version: `"7"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag(pub u64);

impl ETag {
    pub fn header(self) -> (HeaderName, HeaderValue) {
        let value = HeaderValue::from_str(&format!("\"{}\"", self.0));
        (header::ETAG, value.unwrap_or(HeaderValue::from_static("\"0\"")))
    }
}

impl IntoResponseParts for ETag {
    type Error = std::convert::Infallible;

    fn into_response_parts(
        self,
        mut response: ResponseParts,
    ) -> Result<ResponseParts, Self::Error> {
        let (name, value) = self.header();
        response.headers_mut().insert(name, value);
        Ok(response)
    }
}

/// What a write depends on: the `If-Match` header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// No header, or `*`: any version.
    #[default]
    Any,
    /// One of these.
    Versions(Vec<u64>),
}

impl IfMatch {
    /// Whether a thing of `version` may be written.
    pub fn allows(&self, version: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Versions(versions) => versions.contains(&version),
        }
    }

    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut versions = Vec::new();
        for value in headers.get_all(header::IF_MATCH) {
            let text = value.to_str().map_err(|error| malformed().because(error))?;
            for tag in text.split(',').map(str::trim) {
                if tag == "*" {
                    return Ok(Self::Any);
                }
                let quoted = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
                // A weak tag or one of somebody else's matches nothing here.
                match quoted.map(str::parse) {
                    Some(Ok(version)) => versions.push(version),
                    Some(Err(_)) => {}
                    None if tag.starts_with("W/\"") => {}
                    None => return Err(malformed()),
                }
            }
        }
        let given = headers.contains_key(header::IF_MATCH);
        Ok(if given { Self::Versions(versions) } else { Self::Any })
    }
}

fn malformed() -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        "malformed_if_match",
        "If-Match holds the ETag that you were given, with its quotation marks",
    )
    .field("If-Match")
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::read(&parts.headers)
    }
}
