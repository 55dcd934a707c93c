//! What caused what: correlation ids and W3C trace context, from the request to the events and back.

use std::fmt::Write as _;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};

use crate::{commit::CAUSE, tx::Cause};

/// Names one request and everything that follows from it.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// W3C Trace Context, version 00.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Longer correlation ids are replaced.
const CORRELATION_ID_MAX: usize = 128;

/// Reads or makes the request's cause; commands of the request carry it, and the answer shows it.
pub async fn middleware(request: Request, next: Next) -> Response {
    let cause = from_headers(request.headers());
    let correlation_id = HeaderValue::from_str(&cause.correlation_id);
    let mut response = CAUSE.scope(cause, next.run(request)).await;
    if let Ok(value) = correlation_id {
        response.headers_mut().insert(CORRELATION_ID, value);
    }
    response
}

/// Runs `work` as a consequence of what a record's headers name.
pub(crate) async fn caused_by<T>(cause: Cause, work: impl Future<Output = T>) -> T {
    CAUSE.scope(cause, work).await
}

/// A cause out of nothing.
pub(crate) fn fresh() -> Cause {
    Cause { correlation_id: uuid(), traceparent: traceparent(None) }
}

/// The cause that `correlation_id` and `traceparent` name, made where they are missing or malformed.
pub(crate) fn cause(correlation_id: Option<&str>, parent: Option<&str>) -> Cause {
    let usable = correlation_id.filter(|id| {
        !id.is_empty()
            && id.len() <= CORRELATION_ID_MAX
            && id.bytes().all(|byte| byte.is_ascii_graphic())
    });
    Cause {
        correlation_id: usable.map_or_else(uuid, str::to_owned),
        traceparent: traceparent(parent),
    }
}

fn from_headers(headers: &HeaderMap) -> Cause {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    cause(text(CORRELATION_ID), text(TRACEPARENT))
}

/// A child span of `parent`, or the first of a new trace.
fn traceparent(parent: Option<&str>) -> String {
    let mut fields = parent.unwrap_or_default().split('-');
    let trace = match (fields.next(), fields.next(), fields.next()) {
        (Some("00"), Some(trace), Some(span)) if is_hex(trace, 32) && is_hex(span, 16) => {
            trace.to_owned()
        }
        _ => hex(16),
    };
    format!("00-{trace}-{}-01", hex(8))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && text.bytes().any(|byte| byte != b'0')
}

fn hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    fill(&mut random);
    hex_of(&random)
}

/// Two lower-case digits for each byte.
pub(crate) fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

/// A random UUID (RFC 9562, version 4).
pub(crate) fn uuid() -> String {
    let mut random = [0; 16];
    fill(&mut random);
    uuid::Builder::from_random_bytes(random).into_uuid().to_string()
}

#[expect(clippy::expect_used, reason = "a Linux without its random generator runs nothing of ours")]
fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel's random generator works");
}
