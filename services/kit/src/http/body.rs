//! Extractors whose rejections have the one error shape.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;

use super::ApiError;

/// A JSON body. Malformed JSON is 400; a field that is unknown, missing or of the wrong type is 422 and named.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let content_type =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(is_json) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "send JSON, with the header Content-Type: application/json",
            ));
        }
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| too_large(&rejection))?;
        parse(&bytes).map(Self)
    }
}

/// Reads JSON as the extractor does.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde takes an array for a struct too, field by field; no API of ours means that.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "wrong_type",
            "the body is a JSON object, not an array",
        ));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json);
    let parsed = parsed.map_err(|error| rejection(&error))?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(parsed)
}

fn rejection(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let inner = error.inner();
    if inner.classify() != serde_json::error::Category::Data {
        return malformed(inner);
    }
    let text = inner.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let (code, named) = if let Some(rest) = text.strip_prefix("unknown field ") {
        ("unknown_field", quoted(rest))
    } else if let Some(rest) = text.strip_prefix("missing field ") {
        ("missing_field", quoted(rest))
    } else {
        ("wrong_type", None)
    };
    let path = error.path().to_string();
    let field = match (named, path.as_str()) {
        (Some(named), "." | "") => named,
        (Some(named), path) if path.split('.').next_back() == Some(&named) => path.to_owned(),
        (Some(named), path) => format!("{path}.{named}"),
        (None, path) => path.to_owned(),
    };
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, text.to_owned()).field(field)
}

fn quoted(text: &str) -> Option<String> {
    text.split('`').nth(1).map(str::to_owned)
}

fn malformed(error: &serde_json::Error) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "malformed_json", format!("this is no JSON: {error}"))
}

fn too_large(rejection: &BytesRejection) -> ApiError {
    let status = rejection.status();
    ApiError::new(status, "unreadable_body", rejection.body_text())
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence.to_ascii_lowercase().ends_with("+json")
}

/// The query string. What is unknown, malformed or of the wrong type is 422 and named.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        axum::extract::Query::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(
            |rejection| {
                let text = std::error::Error::source(&rejection)
                    .map_or_else(|| rejection.body_text(), ToString::to_string);
                let error =
                    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", text.clone());
                match text
                    .split_once(':')
                    .map(|(field, _)| field.to_owned())
                    .or_else(|| quoted(&text))
                {
                    Some(field) => error.field(field),
                    None => error,
                }
            },
        )
    }
}

/// Parts of the path. What does not parse cannot exist: 404.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(path) => Ok(Self(path.0)),
            Err(rejection) => Err(ApiError::not_found().because(rejection)),
        }
    }
}
