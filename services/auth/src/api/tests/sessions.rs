//! Log-in, sessions, passwords.

use std::time::Duration;

use serde_json::{Value, json};

use super::{House, PASSWORD};
use crate::store::{
    Refusal, expired,
    rows::{Invitation, Reset, Session},
    sessions::SESSIONS_PER_USER,
};

#[tokio::test]
async fn one_logs_in_by_name_or_address_in_any_spelling() {
    let house = House::open();
    house.person("anna").await;
    for login in ["anna", "ANNA", "anna@example.com", "Anna@Example.com"] {
        let answer = house.login(login, PASSWORD).await;
        assert_eq!(answer.status, 200, "{login}");
        assert_eq!(answer.body["user"]["username"], "anna");
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_are_answered_alike() {
    let house = House::open();
    house.person("anna").await;
    let wrong = house.login("anna", "wrong").await;
    let unknown = house.login("nobody", "wrong").await;
    assert_eq!((wrong.status, wrong.error().0), (401, "wrong_login"));
    assert_eq!(
        (wrong.status, &wrong.body["error"]["message"]),
        (unknown.status, &unknown.body["error"]["message"])
    );
    for body in [
        json!({}),
        json!({"login": "anna"}),
        json!({"login": 1, "password": "x"}),
        json!({"login": "anna", "password": "x", "remember": true}),
    ] {
        assert_eq!(house.post("/auth/login", None, body).await.status, 422);
    }
    assert_eq!(house.count("user.authenticated"), 1);
}

#[tokio::test]
async fn guessing_is_slowed_and_the_owner_is_back_soon() {
    let house = House::open();
    let anna = house.person("anna").await;
    let berta = house.person("berta").await;
    for _ in 0..10 {
        assert_eq!(house.login("anna", "wrong").await.status, 401);
    }
    let answer = house.login("anna", PASSWORD).await;
    assert_eq!((answer.status, answer.error().0), (429, "too_many_attempts"));
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    assert_eq!(house.login("berta", PASSWORD).await.status, 200);
    assert_eq!(house.get("/auth/me", Some(&anna.token)).await.status, 200);
    assert_eq!(house.get("/auth/me", Some(&berta.token)).await.status, 200);
    house.pass(Duration::from_secs(wait));
    assert_eq!(house.login("anna", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_crowd_of_wrong_passwords_is_counted_while_it_waits() {
    let house = House::open();
    house.person("anna").await;
    let answers = super::all((0..40).map(|_| house.login("anna", "wrong"))).await;
    let looked_at = answers.iter().filter(|answer| answer.status == 401).count();
    assert!((10..=11).contains(&looked_at), "{looked_at}");
    assert_eq!(answers.iter().filter(|answer| answer.status == 429).count(), 40 - looked_at);
}

#[tokio::test]
async fn sixty_four_log_ins_at_once_pass() {
    let house = House::open();
    house.person("anna").await;
    let answers = super::all((0..64).map(|_| house.login("anna", PASSWORD))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(house.count("user.authenticated"), 65);
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let house = House::open();
    let (anna, berta) = (house.person("anna").await, house.person("berta").await);
    let second = house.login("anna", PASSWORD).await.text("token");
    let sessions = house.get("/auth/sessions", Some(&anna.token)).await.body;
    let items = sessions["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!((&items[0]["current"], &items[1]["current"]), (&json!(true), &json!(false)));
    assert_eq!(items[0]["userAgent"], "test/1");
    assert!(!sessions.to_string().contains(&anna.token));

    let path = format!("/auth/sessions/{}", items[1]["id"]);
    assert_eq!(house.delete(&path, Some(&berta.token)).await.status, 404);
    assert_eq!(house.delete("/auth/sessions/abc", Some(&anna.token)).await.status, 404);
    assert_eq!(house.delete(&path, None).await.status, 401);
    assert_eq!(house.delete(&path, Some(&anna.token)).await.status, 204);
    assert_eq!(house.get("/auth/me", Some(&second)).await.status, 401);
    assert_eq!(house.delete(&path, Some(&anna.token)).await.status, 404);

    let third = house.login("anna", PASSWORD).await.text("token");
    assert_eq!(house.delete("/auth/sessions", Some(&anna.token)).await.status, 204);
    assert_eq!(house.get("/auth/me", Some(&third)).await.status, 401);
    assert_eq!(house.post("/auth/logout", Some(&anna.token), Value::Null).await.status, 204);
    assert_eq!(house.get("/auth/me", Some(&anna.token)).await.status, 401);
    assert_eq!(house.post("/auth/logout", Some(&anna.token), Value::Null).await.status, 401);
    assert_eq!(house.get("/auth/me", Some(&berta.token)).await.status, 200);
}

#[tokio::test]
async fn a_session_in_use_lives_on_but_not_for_ever() {
    let house = House::open();
    let anna = house.person("anna").await;
    for _ in 0..8 {
        house.pass(Duration::from_hours(480));
        assert_eq!(house.get("/auth/me", Some(&anna.token)).await.status, 200);
        house.until_touched(&anna).await;
    }
    house.pass(Duration::from_hours(600));
    assert_eq!(house.get("/auth/me", Some(&anna.token)).await.status, 401, "after 180 days");
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let house = House::open();
    let anna = house.person("anna").await;
    let other = house.login("anna", PASSWORD).await.text("token");
    let put = async |current: &str, new: &str| {
        let body = json!({"currentPassword": current, "newPassword": new});
        house.send("PUT", "/auth/password", Some(&anna.token), body).await
    };
    let answer = put("wrong", "new").await;
    assert_eq!((answer.status, answer.error()), (403, ("wrong_password", Some("currentPassword"))));
    assert_eq!(put(PASSWORD, "").await.error(), ("too_short", Some("newPassword")));
    assert_eq!(put(PASSWORD, "new").await.status, 204);
    assert_eq!(house.get("/auth/me", Some(&anna.token)).await.status, 200);
    assert_eq!(house.get("/auth/me", Some(&other)).await.status, 401);
    assert_eq!(house.login("anna", PASSWORD).await.status, 401);
    assert_eq!(house.login("anna", "new").await.status, 200);
}

#[tokio::test]
async fn a_reset_token_works_once_for_an_hour_and_ends_all_sessions() {
    let house = House::open();
    let anna = house.person("anna").await;
    let ask = async |email: &str| {
        house.post("/auth/password-reset", None, json!({"email": email})).await.status
    };
    let confirm = async |token: &str| {
        let body = json!({"token": token, "newPassword": "new"});
        house.post("/auth/password-reset/confirm", None, body).await
    };
    assert_eq!(ask("nobody@example.com").await, 202);
    assert_eq!(ask("nonsense").await, 422);
    assert_eq!(ask("ANNA@example.com").await, 202);
    let first = house.reset_token(1).await;
    assert_eq!(ask("anna@example.com").await, 202, "but sends no other mail within the minute");
    house.pass(Duration::from_mins(1));
    assert_eq!(ask("anna@example.com").await, 202);
    let second = house.reset_token(2).await;

    assert_eq!(
        confirm(&first).await.error(),
        ("unknown", Some("token")),
        "a later one replaced it"
    );
    assert_eq!(confirm("nonsense").await.status, 422);
    assert_eq!(confirm(&second).await.status, 204);
    assert_eq!(confirm(&second).await.status, 422);
    assert_eq!(house.get("/auth/me", Some(&anna.token)).await.status, 401);
    assert_eq!(house.login("anna", "new").await.status, 200);

    assert_eq!(ask("anna@example.com").await, 202);
    let third = house.reset_token(3).await;
    assert_eq!(house.count("__auth.password-reset"), 3);
    house.pass(Duration::from_hours(1));
    assert_eq!(confirm(&third).await.status, 422);
    for event in house.events().iter().filter(|event| !event.topic.starts_with("__")) {
        assert!(!event.text().contains(&third));
    }
}

#[tokio::test]
async fn the_session_unused_for_longest_makes_room() {
    let house = House::open();
    let anna = house.person("anna").await;
    for _ in 0..SESSIONS_PER_USER {
        assert_eq!(house.login("anna", PASSWORD).await.status, 200);
    }
    assert_eq!(house.get("/auth/me", Some(&anna.token)).await.status, 401);
    let last = house.login("anna", PASSWORD).await.text("token");
    let page = house.get("/auth/sessions?limit=200", Some(&last)).await.body;
    assert_eq!(page["items"].as_array().unwrap().len(), SESSIONS_PER_USER);
}

#[tokio::test]
async fn guessing_inside_a_session_is_slowed_too() {
    let house = House::open();
    let anna = house.person("anna").await;
    let body = json!({"currentPassword": "wrong", "newPassword": "new"});
    for _ in 0..10 {
        let answer = house.send("PUT", "/auth/password", Some(&anna.token), body.clone()).await;
        assert_eq!(answer.status, 403);
    }
    let answer = house.send("PUT", "/auth/password", Some(&anna.token), body).await;
    assert_eq!(answer.status, 429);
    let close = json!({"password": PASSWORD});
    assert_eq!(house.send("DELETE", "/auth/me", Some(&anna.token), close).await.status, 429);
}

#[tokio::test]
async fn what_expired_is_swept_away() {
    let house = House::open();
    let anna = house.person("anna").await;
    let team = house.team(&anna, "House").await;
    house.post(&format!("/teams/{team}/invitations"), Some(&anna.token), json!({})).await;
    house.post("/auth/password-reset", None, json!({"email": "anna@example.com"})).await;
    house.reset_token(1).await;
    let sweep = async || {
        let swept = house.testing.commit.run(|tx| {
            expired::sweep(tx);
            Ok::<_, Refusal>(())
        });
        swept.await.unwrap();
        let view = house.testing.commit.view();
        let (all, from) = (usize::MAX, "");
        (
            view.scan::<Session>(from, all).len(),
            view.scan::<Reset>(from, all).len(),
            view.scan::<Invitation>(from, all).len(),
        )
    };
    assert_eq!(sweep().await, (1, 1, 1));
    house.pass(Duration::from_hours(1));
    assert_eq!(sweep().await, (1, 0, 1));
    house.pass(Duration::from_hours(7 * 24));
    assert_eq!(sweep().await, (1, 0, 0));
    house.pass(Duration::from_hours(30 * 24));
    assert_eq!(sweep().await, (0, 0, 0));
}
