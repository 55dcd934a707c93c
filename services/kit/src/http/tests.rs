//! Requests as they come in, answers as they go out.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
    middleware::from_fn,
    response::IntoResponse,
    routing::post,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{
    ApiError, Json, Page, PageQuery, Patch,
    idempotency::{IdempotencyKey, Once, Reply},
    trace,
};
use crate::{CommitError, Tables, testing::Testing};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Body1 {
    title: String,
    inner: Inner,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    due: Patch<i64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    #[serde(default)]
    count: i64,
}

async fn answer(request: Request<Body>) -> (StatusCode, Value, axum::http::HeaderMap) {
    let echo = post(async |Json(body): Json<Body1>| axum::Json(body));
    let router = Router::new().route("/", echo).layer(from_fn(trace::middleware));
    let response = router.oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = to_bytes(response.into_body(), 1 << 16).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default(), headers)
}

async fn sent(body: &str) -> (u16, Value) {
    let request = Request::post("/").header("content-type", "application/json");
    let (status, value, _) = answer(request.body(Body::from(body.to_owned())).unwrap()).await;
    (status.as_u16(), value)
}

#[tokio::test]
async fn a_bad_body_is_refused_with_the_field_that_is_wrong() {
    for (body, status, code, field) in [
        ("{", 400, "malformed_json", Value::Null),
        ("{} x", 400, "malformed_json", Value::Null),
        ("", 400, "malformed_json", Value::Null),
        (r#"{"nope":1}"#, 422, "unknown_field", json!("nope")),
        (r#"{"title":7}"#, 422, "wrong_type", json!("title")),
        (r#"{"inner":{"count":"7"}}"#, 422, "wrong_type", json!("inner.count")),
        (r#"{"inner":{"nope":"7"}}"#, 422, "unknown_field", json!("inner.nope")),
    ] {
        let (got, value) = sent(body).await;
        assert_eq!(got, status, "{body}: {value}");
        assert_eq!(value["error"]["code"], code, "{body}: {value}");
        assert_eq!(value["error"]["field"], field, "{body}: {value}");
        assert!(value["error"]["message"].is_string(), "{body}");
    }
}

#[tokio::test]
async fn absent_null_and_a_value_are_three_things() {
    assert_eq!(sent("{}").await.1.get("due"), None);
    assert_eq!(sent(r#"{"due":null}"#).await.1.get("due"), Some(&Value::Null));
    assert_eq!(sent(r#"{"due":7}"#).await.1.get("due"), Some(&json!(7)));
}

#[tokio::test]
async fn a_body_that_is_not_called_json_is_refused() {
    let (status, value, _) = answer(Request::post("/").body(Body::from("{}")).unwrap()).await;
    assert_eq!((status.as_u16(), &value["error"]["code"]), (415, &json!("not_json")));
}

#[tokio::test]
async fn a_correlation_id_comes_back_and_a_bad_one_is_replaced() {
    for (given, kept) in [("request-7", true), ("with space", false), ("", false)] {
        let request = Request::post("/").header("x-correlation-id", given).body(Body::empty());
        let (_, _, headers) = answer(request.unwrap()).await;
        let back = headers["x-correlation-id"].to_str().unwrap();
        assert_eq!(back == given, kept, "{given}");
        assert!(!back.is_empty());
    }
}

#[test]
fn a_trace_goes_on_and_a_malformed_one_begins_anew() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let child = trace::cause(Some("c"), Some(parent)).traceparent;
    assert!(child.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{child}");
    assert_ne!(child, parent);
    for bad in ["", "00-0-0-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
        let fresh = trace::cause(None, Some(bad)).traceparent;
        assert_eq!(fresh.len(), parent.len(), "{fresh}");
    }
}

#[test]
fn a_page_leads_to_the_next_and_the_last_to_none() {
    let query = PageQuery { limit: Some(2), cursor: None };
    let page = Page::cut(vec![1, 2, 3], query.limit().unwrap(), |item| *item);
    assert_eq!(page.items, [1, 2]);
    let next = PageQuery { limit: Some(2), cursor: page.next_cursor };
    assert_eq!(next.place::<i64>().unwrap(), Some(2));
    assert_eq!(Page::cut(vec![3], 2, |item| *item).next_cursor, None);
    let foreign = PageQuery { limit: Some(201), cursor: Some("?".to_owned()) };
    assert_eq!(foreign.limit().unwrap_err().status().as_u16(), 422);
    assert_eq!(foreign.place::<i64>().unwrap_err().code(), "invalid_cursor");
}

#[tokio::test]
async fn a_repeated_write_has_one_effect_and_one_answer_for_a_day() {
    let testing = Testing::new(Tables::new());
    let write = async |key: &str, body: &str| {
        let once = Once::new(IdempotencyKey(Some(key.to_owned())), "7 POST /tasks", &body);
        let written = testing.commit.run(move |tx| {
            once.run(tx, |tx| {
                Ok::<_, ApiError>(Reply::json(StatusCode::CREATED, &tx.next_id("tasks")))
            })
        });
        written.await
    };
    let id = |reply: Result<Reply, CommitError<ApiError>>| reply.unwrap().body;
    assert_eq!(id(write("k", "a").await), Some(json!(1)));
    assert_eq!(id(write("k", "a").await), Some(json!(1)));
    assert_eq!(id(write("other", "a").await), Some(json!(2)));
    let CommitError::Refused(error) = write("k", "b").await.unwrap_err() else { panic!() };
    assert_eq!(error.status().as_u16(), 422);
    testing.clock.set("2026-01-02T00:00:01Z".parse().unwrap());
    assert_eq!(id(write("k", "b").await), Some(json!(3)));
}

#[test]
fn an_unknown_outcome_names_the_command() {
    let error: ApiError = CommitError::<ApiError>::Unknown { command_id: "c-1".to_owned() }.into();
    assert_eq!((error.status().as_u16(), error.code()), (503, "outcome_unknown"));
    assert!(error.into_response().headers().contains_key("retry-after"));
}
