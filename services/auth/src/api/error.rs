//! Refusals as HTTP answers.

use std::time::Duration;

use axum::http::StatusCode;
use kit::http::ApiError;

use crate::{model::Invalid, store::Refusal, worker::hasher::HashError};

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, invalid.code, invalid.message)
            .field(invalid.field)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::SignedOut => ApiError::unauthenticated(),
            Refusal::Unknown => ApiError::not_found(),
            Refusal::Forbidden { code, message } => {
                ApiError::new(StatusCode::FORBIDDEN, code, message)
            }
            Refusal::Conflict { code, field, message } => {
                let error = ApiError::new(StatusCode::CONFLICT, code, message);
                match field {
                    Some(field) => error.field(field),
                    None => error,
                }
            }
            Refusal::Invalid { field, code, message } => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, message).field(field)
            }
        }
    }
}

/// The same for an unknown name and a wrong password.
pub(super) fn wrong_login() -> ApiError {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "wrong_login",
        "this name and password do not belong together",
    )
}

pub(super) fn wrong_password(field: &'static str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "wrong_password", "this is not your password").field(field)
}

pub(super) fn slow_down(of_what: &str, wait: Duration) -> ApiError {
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_attempts",
        format!("too many {of_what}; try again in {seconds} s"),
    )
    .retry_after(u64::try_from(seconds).unwrap_or(u64::MAX))
}

pub(super) fn from_hashing(error: HashError) -> ApiError {
    match error {
        HashError::Busy => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many people log in at once")
                .retry_after(1)
        }
        HashError::Failed => ApiError::internal(error),
    }
}
