use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::watch;
use tower::ServiceExt;
use utoipa::openapi::{Info, OpenApi, OpenApiBuilder, Server};

use super::proxy::Proxy;
use crate::board::{Board, all_ready, summary};
use crate::metrics::Metrics;

/// The first segment of every path of a service, without `/api`.
const SEGMENTS: &[(&str, &[&str])] = &[
    ("auth", &["auth", "users", "teams", "invitations", "internal"]),
    ("task", &["tasks"]),
    ("notification", &["notifications"]),
];

fn segments(service: &str) -> &'static [&'static str] {
    SEGMENTS.iter().find(|(name, _)| *name == service).map_or(&[], |(_, segments)| segments)
}

/// What a running service answers with. Not to be cloned: the description is thousands of allocations, and a request
/// needs the router alone.
pub(crate) struct Serving {
    pub router: Router,
    pub openapi: OpenApi,
}

/// A service's place: empty while it starts or restarts.
#[derive(Clone)]
pub(crate) enum Slot {
    Here {
        name: &'static str,
        serving: watch::Receiver<Option<Serving>>,
    },
    /// It runs in another process, as its `url` says.
    Elsewhere {
        name: &'static str,
        proxy: Proxy,
    },
}

impl Slot {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Here { name, .. } | Self::Elsewhere { name, .. } => name,
        }
    }

    async fn answer(&self, request: Request) -> Response {
        match self {
            Self::Here { name, serving } => {
                let router = serving.borrow().as_ref().map(|serving| serving.router.clone());
                match router {
                    Some(router) => router.oneshot(request).await.into_response(),
                    None => unavailable(name),
                }
            }
            Self::Elsewhere { name, proxy } => {
                proxy.forward(request).await.unwrap_or_else(|error| {
                    tracing::info!(service = name, %error, "no answer from the service");
                    unavailable(name)
                })
            }
        }
    }
}

fn unavailable(service: &str) -> Response {
    let message = format!("the {service} service is not ready yet; try again in a moment");
    let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &message);
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    response
}

pub(super) fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({"error": {"code": code, "message": message, "field": null}});
    (status, Json(body)).into_response()
}

/// What the HTTP port shares among its requests.
#[derive(Clone)]
pub(crate) struct Front {
    pub board: Board,
    pub slots: Vec<Slot>,
    pub metrics: Metrics,
}

/// The router of the HTTP port.
pub(crate) fn front(front: Front) -> Router {
    let api = Router::new().route("/openapi.json", get(openapi)).fallback(service);
    Router::new()
        .route("/livez", get(alive))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .nest("/api", api)
        .fallback(|| async { nothing_here() })
        .with_state(front)
}

async fn alive() -> &'static str {
    "alive\n"
}

async fn metrics(State(front): State<Front>) -> Response {
    front.metrics.answer()
}

fn nothing_here() -> Response {
    refusal(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is nothing at this path; see /api/openapi.json",
    )
}

async fn readyz(State(front): State<Front>, RawQuery(query): RawQuery) -> Response {
    let parts = front.board.parts();
    let ready = all_ready(&parts);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if query
        .is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("verbose")))
    {
        (status, Json(json!({"ready": ready, "parts": parts}))).into_response()
    } else {
        (status, format!("{}\n", summary(&parts))).into_response()
    }
}

async fn service(State(front): State<Front>, request: Request) -> Response {
    let first = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
    let slot = front.slots.iter().find(|slot| segments(slot.name()).contains(&first)).cloned();
    match slot {
        Some(slot) => slot.answer(request).await,
        None => nothing_here(),
    }
}

/// The descriptions of all services that run here, as one.
async fn openapi(State(front): State<Front>) -> Json<OpenApi> {
    let mut all = OpenApiBuilder::new()
        .info(Info::new("Ottla", env!("CARGO_PKG_VERSION")))
        .servers(Some([Server::new("/api")]))
        .build();
    for slot in &front.slots {
        if let Slot::Here { serving, .. } = slot
            && let Some(serving) = serving.borrow().as_ref()
        {
            all.merge(serving.openapi.clone());
        }
    }
    Json(all)
}

/// The router of a service's own port: the same paths without `/api`, and its own health.
pub(crate) fn own_port(slot: Slot, board: Board) -> Router {
    let name = slot.name();
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(move || async move { own_readyz(&board, name) }))
        .fallback(move |request: Request<Body>| {
            let slot = slot.clone();
            async move { slot.answer(request).await }
        })
}

fn own_readyz(board: &Board, name: &'static str) -> (StatusCode, String) {
    let parts = board.parts();
    let part = parts.iter().find(|part| part.name == name);
    let ready = part.is_some_and(|part| part.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = part.map_or("not here", |part| part.status.as_str());
    (status, format!("{text}\n"))
}
