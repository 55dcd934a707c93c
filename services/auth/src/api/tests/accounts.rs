//! Registration and one's own account.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Config, House, PASSWORD};
use crate::Registration;

#[tokio::test]
async fn the_seed_registers_and_is_administrator_with_a_personal_team() {
    let house = House::open();
    let body = json!({"username": "test", "email": "test@example.com", "password": "pass"});
    let answer = house.post("/auth/register", None, body).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body["id"], 1);
    assert_eq!(answer.body["username"], "test");
    assert_eq!(answer.body["email"], "test@example.com");
    assert_eq!(answer.keys(), ["createdAt", "email", "id", "username"]);
    let created = answer.body["createdAt"].as_str().unwrap();
    assert!(
        created.len() == "2026-11-21T11:11:55.123Z".len() && created.ends_with('Z'),
        "{created}"
    );

    let login = house.post("/auth/login", None, json!({"login": "test", "password": "pass"})).await;
    let token = login.body["token"].as_str().unwrap();
    let me = house.get("/auth/me", Some(token)).await;
    assert_eq!(me.body["administrator"], true);
    let teams = house.get("/teams", Some(token)).await.body;
    assert_eq!(teams["items"][0]["id"], me.body["personalTeamId"]);
    assert_eq!(teams["items"][0]["personal"], true);
    assert_eq!(teams["items"][0]["role"], "owner");
    assert_eq!(teams["nextCursor"], Value::Null);

    let events = house.events();
    let created = events.iter().find(|event| event.topic == "user.created").unwrap();
    assert_eq!(created.value["eventType"], "user.created");
    assert_eq!(created.value["userId"], 1);
    assert_eq!(created.value["payload"]["email"], "test@example.com");
    assert_eq!(created.value["payload"]["username"], "test");
    assert_eq!(house.values("user.registered", "eventId"), [created.value["eventId"].clone()]);
    assert_eq!(house.count("user.authenticated"), 1);
    assert!(events.iter().all(|event| !event.text().contains("pass")));
}

#[tokio::test]
async fn a_second_registration_is_a_conflict_that_names_the_field() {
    let house = House::open();
    house.person("anna").await;
    let body = json!({"username": "other", "email": "ANNA@example.com", "password": PASSWORD});
    let answer = house.post("/auth/register", None, body).await;
    assert_eq!((answer.status, answer.error()), (409, ("taken", Some("email"))));
    let body = json!({"username": "Anna", "email": "other@example.com", "password": PASSWORD});
    let answer = house.post("/auth/register", None, body).await;
    assert_eq!((answer.status, answer.error()), (409, ("taken", Some("username"))));
    assert_eq!(house.count("user.created"), 1);
}

#[tokio::test]
async fn of_a_hundred_registrations_at_once_one_succeeds() {
    let house = House::open();
    let register = |i: i32| {
        let username = format!("name{i}");
        let body = json!({"username": username, "email": "a@example.com", "password": PASSWORD});
        house.post("/auth/register", None, body)
    };
    let answers = super::all((0..100).map(register)).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 409).count(), 99);
    assert_eq!(house.count("user.created"), 1);
    assert_eq!(house.count("user.registered"), 1);
}

#[tokio::test]
async fn bad_registrations_name_the_field_and_change_nothing() {
    let house = House::open();
    let long = "x".repeat(65);
    let bodies = [
        (json!({"username": "", "email": "a@b.c", "password": "p"}), "username"),
        (json!({"username": long, "email": "a@b.c", "password": "p"}), "username"),
        (json!({"username": "a@b.c", "email": "a@b.c", "password": "p"}), "username"),
        (json!({"username": "a", "email": "nonsense", "password": "p"}), "email"),
        (json!({"username": "a", "email": "a@b.c\r\nBcc: x@y.z", "password": "p"}), "email"),
        (json!({"username": "a", "email": "a@b.c", "password": ""}), "password"),
        (json!({"username": "a", "email": "a@b.c", "password": "x".repeat(1025)}), "password"),
        (json!({"username": "a", "email": "a@b.c", "password": "p", "admin": true}), "admin"),
        (json!({"username": 1, "email": "a@b.c", "password": "p"}), "username"),
        (json!({"username": "a", "email": "a@b.c"}), "password"),
        (
            json!({"username": "a", "email": "a@b.c", "password": "p", "invitation": "?"}),
            "invitation",
        ),
    ];
    for (body, field) in bodies {
        let answer = house.post("/auth/register", None, body.clone()).await;
        assert_eq!((answer.status, answer.error().1), (422, Some(field)), "{body}");
    }
    for text in ["", "{", "[]", "\"x\"", "{\"username\":"] {
        let answer = house.raw("POST", "/auth/register", None, Some(text)).await;
        assert!(matches!(answer.status, 400 | 422), "{text}: {}", answer.status);
        assert!(answer.body["error"]["code"].is_string(), "{text}");
    }
    assert_eq!(house.events().len(), 0);
    assert_eq!(house.person("anna").await.id, 1);
}

#[tokio::test]
async fn passwords_are_long_where_strangers_can_reach_us() {
    let config = Config { loopback_only: false, ..super::config() };
    let house = House::with(config);
    let body = json!({"username": "a", "email": "a@b.c", "password": "pass"});
    let answer = house.post("/auth/register", None, body).await;
    assert_eq!((answer.status, answer.error()), (422, ("too_short", Some("password"))));
}

#[tokio::test]
async fn where_registration_is_closed_nobody_enters() {
    let config = Config { registration: Registration::Closed, ..super::config() };
    let house = House::with(config);
    let body = json!({"username": "a", "email": "a@b.c", "password": "pass"});
    let answer = house.post("/auth/register", None, body).await;
    assert_eq!((answer.status, answer.error().0), (403, "registration_closed"));
    assert_eq!(house.events().len(), 0);
}

#[tokio::test]
async fn by_invitation_the_first_enters_freely_and_others_with_a_code() {
    let config = Config { registration: Registration::Invite, ..super::config() };
    let house = House::with(config);
    let anna = house.person("anna").await;
    let body = json!({"username": "b", "email": "b@example.com", "password": PASSWORD});
    let answer = house.post("/auth/register", None, body).await;
    assert_eq!((answer.status, answer.error().0), (403, "invitation_needed"));

    let team = house.team(&anna, "House").await;
    let invitation = json!({"email": "b@example.com", "role": "guest"});
    let path = format!("/teams/{team}/invitations");
    let code = house.post(&path, Some(&anna.token), invitation).await.text("code");
    let with_code = |name: &str| {
        json!({"username": name, "email": format!("{name}@example.com"), "password": PASSWORD,
            "invitation": code})
    };
    let answer = house.post("/auth/register", None, with_code("c")).await;
    assert_eq!((answer.status, answer.error().0), (403, "invited_someone_else"));
    assert_eq!(house.post("/auth/register", None, with_code("b")).await.status, 201);
    let members = house.get(&format!("/teams/{team}/members"), Some(&anna.token)).await.body;
    assert_eq!(members["items"][1]["username"], "b");
    assert_eq!(members["items"][1]["role"], "guest");
    let answer = house.post("/auth/register", None, with_code("d")).await;
    assert_eq!((answer.status, answer.error()), (422, ("unknown", Some("invitation"))));
}

#[tokio::test]
async fn without_a_living_token_there_is_no_me() {
    let house = House::open();
    let anna = house.person("anna").await;
    let long = "x".repeat(1000);
    for token in [None, Some(""), Some("nonsense"), Some(long.as_str())] {
        let answer = house.get("/auth/me", token).await;
        assert_eq!((answer.status, answer.error().0), (401, "unauthenticated"));
    }
    assert_eq!(house.get("/auth/me", Some(&anna.token)).await.status, 200);
    house.pass(std::time::Duration::from_hours(744));
    assert_eq!(house.get("/auth/me", Some(&anna.token)).await.status, 401);
}

#[tokio::test]
async fn one_changes_name_and_address_of_oneself_only() {
    let house = House::open();
    let (anna, _berta) = (house.person("anna").await, house.person("berta").await);
    let patch = async |body: Value| house.send("PATCH", "/auth/me", Some(&anna.token), body).await;

    assert_eq!(patch(json!({"username": "Anna M"})).await.body["username"], "Anna M");
    let answer = patch(json!({"email": "new@example.com"})).await;
    assert_eq!((answer.status, answer.error()), (422, ("missing", Some("password"))));
    let answer = patch(json!({"email": "new@example.com", "password": "wrong"})).await;
    assert_eq!((answer.status, answer.error()), (403, ("wrong_password", Some("password"))));
    let answer = patch(json!({"email": "new@example.com", "password": PASSWORD})).await;
    assert_eq!((answer.status, answer.text("email")), (200, "new@example.com".to_owned()));
    let answer = patch(json!({"username": "BERTA"})).await;
    assert_eq!((answer.status, answer.error()), (409, ("taken", Some("username"))));
    for (body, field) in [
        (json!({"username": null}), "username"),
        (json!({"email": 5}), "email"),
        (json!({"id": 7}), "id"),
        (json!({"administrator": true}), "administrator"),
    ] {
        let answer = patch(body).await;
        assert_eq!((answer.status, answer.error().1), (422, Some(field)));
    }
    assert_eq!(patch(json!({})).await.status, 200);
    let me = house.get("/auth/me", Some(&anna.token)).await.body;
    assert_eq!((&me["username"], &me["id"]), (&json!("Anna M"), &json!(anna.id)));
}

#[tokio::test]
async fn a_closed_account_takes_its_own_teams_along_and_passes_the_office_on() {
    let house = House::open();
    let (anna, berta) = (house.person("anna").await, house.person("berta").await);
    let alone = house.team(&anna, "Alone").await;
    let shared = house.team(&anna, "Shared").await;
    house.add(&anna, shared, berta.id, "member").await;
    let close = async |password: &str| {
        let body = json!({"password": password});
        house.send("DELETE", "/auth/me", Some(&anna.token), body).await
    };

    assert_eq!(close("wrong").await.status, 403);
    let answer = house.raw("DELETE", "/auth/me", Some(&anna.token), None).await;
    assert!(matches!(answer.status, 400 | 415 | 422));
    let answer = close(PASSWORD).await;
    assert_eq!((answer.status, answer.error().0), (409, "last_owner"));
    assert_eq!(house.get("/auth/me", Some(&anna.token)).await.status, 200);

    let path = format!("/teams/{shared}/members/{}", berta.id);
    house.send("PATCH", &path, Some(&anna.token), json!({"role": "owner"})).await;
    assert_eq!(close(PASSWORD).await.status, 204);
    assert_eq!(house.get("/auth/me", Some(&anna.token)).await.status, 401);
    assert_eq!(house.get("/auth/me", Some(&berta.token)).await.body["administrator"], true);
    let deleted: Vec<_> = house.values("team.deleted", "teamId");
    assert!(deleted.contains(&json!(alone)) && deleted.len() == 2, "{deleted:?}");
    assert_eq!(house.values("team.left", "teamId"), [json!(shared)]);
    let again = json!({"username": "anna", "email": "anna@example.com", "password": PASSWORD});
    let again = house.post("/auth/register", None, again).await;
    assert_eq!((again.status, &again.body["id"]), (201, &json!(3)), "ids are not used again");
}

#[tokio::test]
async fn registrations_without_end_have_to_wait() {
    let house = House::open();
    house.person("anna").await;
    let register = async |name: &str| {
        let email = format!("{name}@example.com");
        let body = json!({"username": name, "email": email, "password": PASSWORD});
        house.post("/auth/register", None, body).await
    };
    for _ in 1..200 {
        assert_eq!(register("anna").await.status, 409);
    }
    let answer = register("berta").await;
    assert_eq!((answer.status, answer.error().0), (429, "too_many_attempts"));
    assert_eq!(answer.headers["retry-after"], "10");
    house.pass(Duration::from_secs(10));
    assert_eq!(register("berta").await.status, 201);
    assert_eq!(register("carla").await.status, 429);
}
