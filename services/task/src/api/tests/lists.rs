//! Lists over HTTP.

use super::{ANNA, BERT, DORA, House, TEAM};
use axum::http::StatusCode;
use serde_json::{Value, json};

async fn titles(house: &House, who: i64, query: &str) -> Vec<String> {
    let answer = house.get(who, &format!("/tasks?{query}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{query}: {answer:?}");
    let items = answer.body["items"].as_array().unwrap();
    items.iter().map(|item| item["title"].as_str().unwrap().to_owned()).collect()
}

async fn some_tasks() -> House {
    let house = House::new();
    for body in [
        json!({"title": "Milk", "dueDate": "2026-12-24", "priority": "HIGH", "tags": ["Shop"]}),
        json!({"title": "bread", "assigneeId": BERT, "priority": "LOW", "description": "rye, Milky"}),
        json!({"title": "Ants", "dueDate": "2026-12-24T12:00:00Z", "assigneeId": ANNA}),
    ] {
        let mut body = body;
        body["teamId"] = json!(TEAM);
        assert_eq!(house.post(ANNA, "/tasks", body).await.status, StatusCode::CREATED);
        house.pass_ms(1_000);
    }
    house.post(DORA, "/tasks", json!({"title": "hidden milk"})).await;
    house.post(ANNA, "/tasks", json!({"title": "own"})).await;
    house.patch(ANNA, 2, json!({"completed": true})).await;
    house
}

#[tokio::test]
async fn sorts_and_filters_show_what_they_say() {
    let house = some_tasks().await;
    for (query, wanted) in [
        ("", vec!["own", "Ants", "bread", "Milk"]),
        ("sort=createdAt", vec!["Milk", "bread", "Ants", "own"]),
        ("sort=title", vec!["Ants", "bread", "Milk", "own"]),
        ("sort=dueDate", vec!["Ants", "Milk", "bread", "own"]),
        ("sort=-dueDate", vec!["Milk", "Ants", "own", "bread"]),
        ("sort=-priority&teamId=10", vec!["Milk", "Ants", "bread"]),
        ("sort=-updatedAt&limit=2", vec!["own", "bread"]),
        ("status=completed", vec!["bread"]),
        ("status=pending&sort=title", vec!["Ants", "Milk", "own"]),
        ("status=open&sort=title", vec!["Ants", "Milk", "own"]),
        ("assigneeId=me", vec!["Ants"]),
        ("assigneeId=2", vec!["bread"]),
        ("assigneeId=none", vec!["own", "Milk"]),
        ("priority=HIGH", vec!["Milk"]),
        ("tag=shop", vec!["Milk"]),
        ("dueBefore=2026-12-24", vec![]),
        ("dueBefore=2026-12-24T13:00:00Z", vec!["Ants"]),
        ("dueBefore=2026-12-25", vec!["Ants", "Milk"]),
        ("q=MILK", vec!["bread", "Milk"]),
        ("q=%20", vec!["own", "Ants", "bread", "Milk"]),
        ("q=sho", vec!["Milk"]),
    ] {
        assert_eq!(titles(&house, ANNA, query).await, wanted, "{query}");
    }
    assert_eq!(titles(&house, DORA, "").await, ["hidden milk"]);
}

#[tokio::test]
async fn a_cursor_goes_on_and_serves_no_other_order() {
    let house = some_tasks().await;
    let first = house.get(ANNA, "/tasks?limit=3").await.body;
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    let cursor = first["nextCursor"].as_str().unwrap();
    house.task("new").await;
    let rest = house.get(ANNA, &format!("/tasks?limit=3&cursor={cursor}")).await.body;
    assert_eq!(rest["items"][0]["title"], "Milk");
    assert_eq!(rest["nextCursor"], Value::Null);
    let other = house.get(ANNA, &format!("/tasks?sort=title&cursor={cursor}")).await;
    let found = (other.status, other.field());
    assert_eq!(found, (StatusCode::UNPROCESSABLE_ENTITY, "cursor"));
    let exact = house.get(ANNA, "/tasks?limit=5").await.body;
    assert_eq!(exact["items"].as_array().unwrap().len(), 5);
    assert_eq!(exact["nextCursor"], Value::Null);
}
