//! What is answered to bad input and to those who may not: the right status, the field, and nothing
//! changed or published.

use super::{ANNA, BERT, CORA, Call, DORA, House, TEAM};
use axum::http::{Method, StatusCode};
use kit::Status;
use serde_json::{Value, json};

#[tokio::test]
async fn bad_fields_of_a_new_task_are_named() {
    let house = House::new();
    let long = |count: usize| Value::from("x".repeat(count));
    let cases = [
        (json!({}), "title"),
        (json!({"title": null}), "title"),
        (json!({"title": ""}), "title"),
        (json!({"title": " \t "}), "title"),
        (json!({"title": long(201)}), "title"),
        (json!({"title": "two\nlines"}), "title"),
        (json!({"title": 7}), "title"),
        (json!({"title": "A", "description": long(10_001)}), "description"),
        (json!({"title": "A", "description": ["x"]}), "description"),
        (json!({"title": "A", "priority": "URGENT"}), "priority"),
        (json!({"title": "A", "priority": "high"}), "priority"),
        (json!({"title": "A", "priority": 1}), "priority"),
        (json!({"title": "A", "dueDate": "2026-02-30"}), "dueDate"),
        (json!({"title": "A", "dueDate": "2026-02-30T10:00:00Z"}), "dueDate"),
        (json!({"title": "A", "dueDate": "next week"}), "dueDate"),
        (json!({"title": "A", "dueDate": ""}), "dueDate"),
        (json!({"title": "A", "dueDate": 1_798_070_400_000_i64}), "dueDate"),
        (json!({"title": "A", "category": long(101)}), "category"),
        (json!({"title": "A", "tags": "home"}), "tags"),
        (json!({"title": "A", "tags": [""]}), "tags"),
        (json!({"title": "A", "tags": [long(51)]}), "tags"),
        (json!({"title": "A", "tags": [7]}), "tags[0]"),
        (json!({"title": "A", "tags": (0..21).map(|n| n.to_string()).collect::<Vec<_>>()}), "tags"),
        (json!({"title": "A", "teamId": "10"}), "teamId"),
        (json!({"title": "A", "teamId": TEAM, "assigneeId": DORA}), "assigneeId"),
        (json!({"title": "A", "teamId": TEAM, "assigneeId": 999}), "assigneeId"),
        (json!({"title": "A", "assigneeId": BERT}), "assigneeId"),
        (json!({"title": "A", "assigneeId": "me"}), "assigneeId"),
        (json!({"title": "A", "assignee": 1}), "assignee"),
        (json!({"title": "A", "creatorId": BERT}), "creatorId"),
        (json!({"title": "A", "id": 7}), "id"),
    ];
    for (body, field) in cases {
        let answer = house.post(ANNA, "/tasks", body.clone()).await;
        let found = (answer.status, answer.field());
        assert_eq!(found, (StatusCode::UNPROCESSABLE_ENTITY, field), "{body}: {answer:?}");
        for text in ["code", "message"] {
            assert!(answer.body["error"][text].as_str().is_some_and(|text| !text.is_empty()));
        }
    }
    assert_eq!(house.events(), 0);
    assert_eq!(house.get(ANNA, "/tasks").await.body["items"], json!([]));
    assert_eq!(house.task("the first").await, 1);
}

#[tokio::test]
async fn bad_fields_of_a_patch_are_named_and_nothing_changes() {
    let house = House::new();
    let id = house.task("A").await;
    let before = house.get(ANNA, "/tasks/1").await.body;
    for (body, field) in [
        (json!({"title": null}), "title"),
        (json!({"title": "x".repeat(201)}), "title"),
        (json!({"title": "B", "dueDate": "2026-02-30"}), "dueDate"),
        (json!({"status": null}), "status"),
        (json!({"status": "done"}), "status"),
        (json!({"status": "completed", "completed": false}), "completed"),
        (json!({"completed": "yes"}), "completed"),
        (json!({"assigneeId": DORA}), "assigneeId"),
        (json!({"teamId": ANNA}), "teamId"),
        (json!({"creatorId": BERT}), "creatorId"),
        (json!({"version": 3}), "version"),
    ] {
        let answer = house.patch(ANNA, id, body.clone()).await;
        let found = (answer.status, answer.field());
        assert_eq!(found, (StatusCode::UNPROCESSABLE_ENTITY, field), "{body}: {answer:?}");
    }
    assert_eq!(house.get(ANNA, "/tasks/1").await.body, before);
    assert_eq!(house.events(), 1);
}

#[tokio::test]
async fn bad_queries_of_a_list_are_named() {
    let house = House::new();
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=ten", "limit"),
        ("cursor=nonsense", "cursor"),
        ("sort=colour", "sort"),
        ("status=done", "status"),
        ("assigneeId=somebody", "assigneeId"),
        ("priority=urgent", "priority"),
        ("tag=", "tag"),
        ("dueBefore=2026-02-30", "dueBefore"),
        ("teamId=ours", "teamId"),
        ("colour=red", "colour"),
    ] {
        let answer = house.get(ANNA, &format!("/tasks?{query}")).await;
        let found = (answer.status, answer.field());
        assert_eq!(found, (StatusCode::UNPROCESSABLE_ENTITY, field), "{query}: {answer:?}");
    }
    let foreign = house.get(DORA, &format!("/tasks?teamId={TEAM}")).await;
    assert_eq!((foreign.status, foreign.field()), (StatusCode::NOT_FOUND, "teamId"));
}

#[tokio::test]
async fn no_json_is_400_and_a_strange_precondition_too() {
    let house = House::new();
    let id = house.task("A").await;
    let path = format!("/tasks/{id}");
    let body = Some(json!({"title": "B"}));
    for (header, value) in [("if-match", "1"), ("idempotency-key", "")] {
        let headers = vec![(header, value.to_owned())];
        let call =
            Call { method: Method::PATCH, path: &path, who: ANNA, body: body.clone(), headers };
        assert_eq!(house.call(call).await.status, StatusCode::BAD_REQUEST, "{header}");
    }
    assert_eq!(house.events(), 1);
}

/// Every route, with a body where it takes one.
fn routes(id: i64) -> Vec<(Method, String, Option<Value>)> {
    vec![
        (Method::GET, format!("/tasks/{id}"), None),
        (Method::PATCH, format!("/tasks/{id}"), Some(json!({"title": "B"}))),
        (Method::POST, format!("/tasks/{id}/complete"), None),
        (Method::POST, format!("/tasks/{id}/reopen"), None),
        (Method::DELETE, format!("/tasks/{id}"), None),
        (Method::POST, "/tasks".to_owned(), Some(json!({"title": "B", "teamId": TEAM}))),
        (Method::GET, format!("/tasks?teamId={TEAM}"), None),
    ]
}

async fn statuses(house: &House, who: i64, id: i64) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (method, path, body) in routes(id) {
        let call = Call { method, path: &path, who, body, headers: vec![] };
        statuses.push(house.call(call).await.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn each_role_may_what_the_table_says() {
    let house = House::new();
    let id = house.task("A").await;
    assert_eq!(statuses(&house, 99, id).await, [401; 7]);
    assert_eq!(statuses(&house, DORA, id).await, [404; 7]);
    assert_eq!(statuses(&house, CORA, id).await, [200, 403, 403, 403, 403, 403, 200]);
    assert_eq!(house.events(), 1);
    assert_eq!(statuses(&house, BERT, id).await, [200, 200, 200, 200, 204, 201, 200]);
    let id = house.task("C").await;
    assert_eq!(statuses(&house, ANNA, id).await, [200, 200, 200, 200, 204, 201, 200]);
}

#[tokio::test]
async fn a_guest_completes_and_reopens_their_own_and_no_more() {
    let house = House::new();
    let id = house.task("A").await;
    house.patch(ANNA, id, json!({"assigneeId": CORA})).await;
    assert_eq!(statuses(&house, CORA, id).await, [200, 403, 200, 200, 403, 403, 200]);
    assert_eq!(house.patch(CORA, id, json!({"completed": true})).await.status, StatusCode::OK);
    let more = json!({"completed": false, "title": "B"});
    assert_eq!(house.patch(CORA, id, more).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn ids_that_are_none_are_404() {
    let house = House::new();
    for id in ["0", "-1", "999", "abc", "1.5", "99999999999999999999"] {
        let answer = house.get(ANNA, &format!("/tasks/{id}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{id}");
        assert_eq!(answer.body["error"]["code"], "not_found");
    }
}

#[tokio::test]
async fn without_auth_everything_is_503_and_without_broker_writes_are() {
    let house = House::new();
    let id = house.task("A").await;
    house.people.set_unreachable(true);
    assert_eq!(statuses(&house, ANNA, id).await, [503; 7]);
    house.people.set_unreachable(false);
    house.testing.set_status(Status::Disconnected);
    assert_eq!(statuses(&house, ANNA, id).await, [200, 503, 503, 503, 503, 503, 200]);
    house.testing.set_status(Status::Serving);
    assert_eq!(house.events(), 1);
}
