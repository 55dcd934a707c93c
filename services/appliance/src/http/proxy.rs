use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderName, header};
use axum::response::Response;

use super::server::BODY_BYTES;

/// How long the other process may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Headers that belong to one connection and are not handed on.
const HOP_BY_HOP: &[HeaderName] = &[
    header::CONNECTION,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
];

/// A service in another process.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    url: String,
    client: reqwest::Client,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("the body could not be read: {0}")]
    Body(#[from] axum::Error),
    #[error("{0}")]
    Client(#[from] reqwest::Error),
    #[error("the answer could not be handed on: {0}")]
    Answer(#[from] axum::http::Error),
}

impl Proxy {
    pub(crate) fn new(url: &str) -> Result<Self, reqwest::Error> {
        let client =
            reqwest::Client::builder().timeout(ANSWER).redirect(reqwest::redirect::Policy::none());
        Ok(Self { url: url.trim_end_matches('/').to_owned(), client: client.build()? })
    }

    pub(crate) async fn forward(&self, request: Request) -> Result<Response, ProxyError> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = parts.headers;
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
        let answer = self
            .client
            .request(parts.method, format!("{}{path}", self.url))
            .headers(headers)
            .body(to_bytes(body, BODY_BYTES).await?)
            .send()
            .await?;
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            if !HOP_BY_HOP.contains(name) {
                response = response.header(name, value);
            }
        }
        Ok(response.body(Body::from(answer.bytes().await?))?)
    }
}
