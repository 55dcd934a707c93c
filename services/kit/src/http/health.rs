//! `/healthz` and `/readyz` of one service.

use axum::{Json, Router, http::StatusCode, routing::get};
use serde_json::json;
use tokio::sync::watch;

use crate::Status;

/// Alive as soon as it answers; ready once it is active, restored and serving.
pub fn router(service: &'static str, status: watch::Receiver<Status>) -> Router {
    let ready = move || {
        let status = status.borrow().clone();
        async move {
            let code = match &status {
                Status::Serving => StatusCode::OK,
                Status::Starting(_)
                | Status::Disconnected
                | Status::Standby
                | Status::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            (
                code,
                Json(
                    json!({"service": service, "ready": status.is_ready(), "status": status.to_string()}),
                ),
            )
        }
    };
    Router::new()
        .route("/healthz", get(async move || Json(json!({"service": service, "status": "alive"}))))
        .route("/readyz", get(ready))
}
