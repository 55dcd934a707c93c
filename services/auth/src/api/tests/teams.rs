//! Teams, their members, invitations, and who sees whom.

use serde_json::{Value, json};

use super::{House, PASSWORD, SERVICE_KEY};

#[tokio::test]
async fn a_team_is_known_to_its_members_only() {
    let house = House::open();
    let (anna, berta) = (house.person("anna").await, house.person("berta").await);
    let answer = house.post("/teams", Some(&anna.token), json!({"name": " House "})).await;
    assert_eq!((answer.status, answer.text("name")), (201, "House".to_owned()));
    let path = format!("/teams/{}", answer.body["id"]);
    assert_eq!(house.get(&path, Some(&anna.token)).await.status, 200);
    assert_eq!(house.get(&path, None).await.status, 401);
    for path in [path.as_str(), "/teams/999", "/teams/abc", "/teams/-1"] {
        assert_eq!(house.get(path, Some(&berta.token)).await.status, 404, "{path}");
    }
    let strangers = [
        house.send("PATCH", &path, Some(&berta.token), json!({"name": "Mine"})).await,
        house.delete(&path, Some(&berta.token)).await,
        house.get(&format!("{path}/members"), Some(&berta.token)).await,
        house.get(&format!("{path}/invitations"), Some(&berta.token)).await,
        house.post(&format!("{path}/invitations"), Some(&berta.token), json!({})).await,
        house.delete(&format!("{path}/members/{}", anna.id), Some(&berta.token)).await,
    ];
    assert!(strangers.iter().all(|answer| answer.status == 404));
    assert_eq!(house.get(&path, Some(&anna.token)).await.body["name"], "House");
}

#[tokio::test]
async fn members_see_but_only_owners_run_a_team() {
    let house = House::open();
    let (anna, berta) = (house.person("anna").await, house.person("berta").await);
    let team = house.team(&anna, "House").await;
    house.add(&anna, team, berta.id, "member").await;
    let path = format!("/teams/{team}");
    let seen = house.get(&path, Some(&berta.token)).await.body;
    assert_eq!((&seen["name"], &seen["role"]), (&json!("House"), &json!("member")));
    let to_add = json!({"userId": berta.id, "role": "owner"});
    let forbidden = [
        house.send("PATCH", &path, Some(&berta.token), json!({"name": "Mine"})).await,
        house.delete(&path, Some(&berta.token)).await,
        house.post(&format!("{path}/members"), Some(&berta.token), to_add).await,
        house.get(&format!("{path}/invitations"), Some(&berta.token)).await,
        house.post(&format!("{path}/invitations"), Some(&berta.token), json!({})).await,
        house.delete(&format!("{path}/members/{}", anna.id), Some(&berta.token)).await,
        house
            .send(
                "PATCH",
                &format!("{path}/members/{}", berta.id),
                Some(&berta.token),
                json!({"role": "owner"}),
            )
            .await,
    ];
    assert!(forbidden.iter().all(|answer| answer.status == 403));
    let answer = house.send("PATCH", &path, Some(&anna.token), json!({"name": "Home"})).await;
    assert_eq!((answer.status, answer.text("name")), (200, "Home".to_owned()));
    for (body, field) in [
        (json!({"name": null}), "name"),
        (json!({"name": " "}), "name"),
        (json!({"name": "x".repeat(101)}), "name"),
        (json!({"nome": "x"}), "nome"),
    ] {
        let answer = house.send("PATCH", &path, Some(&anna.token), body).await;
        assert_eq!((answer.status, answer.error().1), (422, Some(field)));
    }
    assert_eq!(house.delete(&path, Some(&anna.token)).await.status, 204);
    assert_eq!(house.get(&path, Some(&berta.token)).await.status, 404);
    assert_eq!(house.values("team.deleted", "teamId"), [json!(team)]);
}

#[tokio::test]
async fn members_come_change_and_go_but_an_owner_stays() {
    let house = House::open();
    let (anna, berta) = (house.person("anna").await, house.person("berta").await);
    let team = house.team(&anna, "House").await;
    let members = format!("/teams/{team}/members");
    let member = |id: i64| format!("{members}/{id}");
    let add = async |body: Value| house.post(&members, Some(&anna.token), body).await;
    assert_eq!(add(json!({"userId": 99, "role": "guest"})).await.error().1, Some("userId"));
    assert_eq!(add(json!({"userId": berta.id, "role": "king"})).await.status, 422);
    assert_eq!(add(json!({"userId": berta.id, "role": "guest"})).await.status, 201);
    assert_eq!(add(json!({"userId": berta.id, "role": "guest"})).await.status, 409);

    let set = async |who: i64, role: Value| {
        house.send("PATCH", &member(who), Some(&anna.token), json!({"role": role})).await
    };
    assert_eq!(set(anna.id, json!("member")).await.error().0, "last_owner");
    let answer = house.delete(&member(anna.id), Some(&anna.token)).await;
    assert_eq!((answer.status, answer.error().0), (409, "last_owner"));
    assert_eq!(set(77, json!("member")).await.status, 404);
    assert_eq!(set(berta.id, Value::Null).await.status, 422);
    assert_eq!(set(berta.id, json!("owner")).await.body["role"], "owner");
    assert_eq!(house.delete(&member(anna.id), Some(&anna.token)).await.status, 204);
    assert_eq!(house.get(&members, Some(&anna.token)).await.status, 404);
    let left = house.events().into_iter().find(|event| event.topic == "team.left").unwrap();
    assert_eq!((&left.value["teamId"], &left.value["userId"]), (&json!(team), &json!(anna.id)));
    let list = house.get(&members, Some(&berta.token)).await.body;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_personal_team_stays_personal() {
    let house = House::open();
    let (anna, berta) = (house.person("anna").await, house.person("berta").await);
    let own = house.get("/auth/me", Some(&anna.token)).await.body["personalTeamId"].clone();
    let path = format!("/teams/{own}");
    let add = json!({"userId": berta.id, "role": "guest"});
    let answers = [
        house.delete(&path, Some(&anna.token)).await,
        house.post(&format!("{path}/members"), Some(&anna.token), add).await,
        house.post(&format!("{path}/invitations"), Some(&anna.token), json!({})).await,
        house.delete(&format!("{path}/members/{}", anna.id), Some(&anna.token)).await,
    ];
    for answer in answers {
        assert_eq!((answer.status, answer.error().0), (409, "personal_team"));
    }
}

#[tokio::test]
async fn an_invitation_is_for_one_address_once_or_open_to_all() {
    let house = House::open();
    let (anna, berta) = (house.person("anna").await, house.person("berta").await);
    let carla = house.person("carla").await;
    let team = house.team(&anna, "House").await;
    let path = format!("/teams/{team}/invitations");
    let invite = async |body: Value| house.post(&path, Some(&anna.token), body).await;
    let accept = async |code: &str, token: &str| {
        house.post(&format!("/invitations/{code}/accept"), Some(token), Value::Null).await
    };
    for (body, field) in [
        (json!({"email": "nonsense"}), "email"),
        (json!({"validHours": 0}), "validHours"),
        (json!({"validHours": 721}), "validHours"),
        (json!({"role": "king"}), "role"),
        (json!({"uses": 3}), "uses"),
    ] {
        let answer = invite(body).await;
        assert_eq!((answer.status, answer.error().1), (422, Some(field)));
    }
    let for_berta = invite(json!({"email": "Berta@example.com", "role": "guest"})).await;
    let code = for_berta.text("code");
    assert_eq!(for_berta.status, 201);
    let listed = house.get(&path, Some(&anna.token)).await.body;
    assert!(!listed.to_string().contains(&code), "codes are shown once");
    assert_eq!(accept(&code, &carla.token).await.status, 403);
    assert_eq!(accept("nonsense", &carla.token).await.status, 404);
    let joined = accept(&code, &berta.token).await;
    assert_eq!((joined.status, &joined.body["role"]), (200, &json!("guest")));
    assert_eq!(accept(&code, &berta.token).await.status, 404);

    let open = invite(json!({"validHours": 1})).await;
    let code = open.text("code");
    assert_eq!(accept(&code, &carla.token).await.body["role"], "member");
    assert_eq!(accept(&code, &carla.token).await.status, 409);
    let item = format!("{path}/{}", open.body["id"]);
    let dora = house.person("dora").await;
    house.pass(std::time::Duration::from_hours(1));
    assert_eq!(accept(&code, &dora.token).await.status, 404, "expired");
    assert_eq!(house.get(&path, Some(&anna.token)).await.body["items"], json!([]));
    assert_eq!(house.delete(&item, Some(&anna.token)).await.status, 204);
    assert_eq!(house.delete(&item, Some(&anna.token)).await.status, 404);
}

#[tokio::test]
async fn addresses_are_shown_to_oneself_and_team_mates_only() {
    let house = House::open();
    let (anna, berta) = (house.person("anna").await, house.person("berta").await);
    let carla = house.person("carla").await;
    let team = house.team(&anna, "House").await;
    house.add(&anna, team, berta.id, "guest").await;
    let email = async |who: i64, token: &str| {
        let answer = house.get(&format!("/users/{who}"), Some(token)).await;
        (answer.status, answer.body["email"].clone())
    };
    assert_eq!(email(anna.id, &anna.token).await, (200, json!("anna@example.com")));
    assert_eq!(email(anna.id, &berta.token).await, (200, json!("anna@example.com")));
    assert_eq!(email(anna.id, &carla.token).await, (200, Value::Null));
    assert_eq!(email(99, &anna.token).await.0, 404);
    assert_eq!(house.get("/users/1", None).await.status, 401);

    let names = async |query: &str, token: &str| {
        let answer = house.get(&format!("/users?{query}"), Some(token)).await;
        let items = answer.body["items"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = items.iter().map(|item| item["username"].clone()).collect();
        (answer.status, names)
    };
    assert_eq!(names("q=ANN", &carla.token).await, (200, vec![json!("anna")]));
    assert_eq!(names("q=anna%40example", &carla.token).await, (200, vec![]));
    assert_eq!(names("q=anna%40example", &berta.token).await, (200, vec![json!("anna")]));
    let both = vec![json!("anna"), json!("berta")];
    assert_eq!(names(&format!("teamId={team}"), &anna.token).await, (200, both));
    assert_eq!(names(&format!("teamId={team}"), &carla.token).await.0, 404);
    assert_eq!(names("teamId=x", &anna.token).await.0, 422);
    assert_eq!(names("colour=x", &anna.token).await.0, 422);
}

#[tokio::test]
async fn an_owner_who_is_demoted_or_removed_has_no_way_back_by_invitations_of_their_own() {
    let house = House::open();
    let (anna, berta) = (house.person("anna").await, house.person("berta").await);
    let team = house.team(&anna, "House").await;
    house.add(&anna, team, berta.id, "owner").await;
    let invitations = format!("/teams/{team}/invitations");
    let invite = async |token: &str| {
        let made = house.post(&invitations, Some(token), json!({"role": "owner"})).await;
        assert_eq!(made.status, 201);
        made.text("code")
    };
    let open = async || {
        let open = house.get(&invitations, Some(&anna.token)).await.body;
        open["items"].as_array().unwrap().len()
    };
    let member = format!("/teams/{team}/members/{}", berta.id);
    invite(&anna.token).await;
    invite(&berta.token).await;
    assert_eq!(open().await, 2);
    for role in ["guest", "owner"] {
        let changed = house.send("PATCH", &member, Some(&anna.token), json!({"role": role})).await;
        assert_eq!(changed.status, 200);
        assert_eq!(open().await, 1);
    }
    let code = invite(&berta.token).await;
    assert_eq!(house.delete(&member, Some(&anna.token)).await.status, 204);
    let back = format!("/invitations/{code}/accept");
    assert_eq!(house.post(&back, Some(&berta.token), Value::Null).await.status, 404);
    assert_eq!(open().await, 1);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let house = House::open();
    let anna = house.person("anna").await;
    for i in 0..4 {
        house.team(&anna, &format!("team {i}")).await;
    }
    let mut seen = Vec::new();
    let mut path = "/teams?limit=2".to_owned();
    loop {
        let page = house.get(&path, Some(&anna.token)).await.body;
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()));
        match page["nextCursor"].as_str() {
            Some(cursor) => path = format!("/teams?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, [json!(1), json!(2), json!(3), json!(4), json!(5)]);
    for query in ["limit=0", "limit=x", "cursor=!", "offset=1"] {
        let answer = house.get(&format!("/teams?{query}"), Some(&anna.token)).await;
        assert_eq!(answer.status, 422, "{query}");
    }
}

#[tokio::test]
async fn services_ask_with_their_key_and_nobody_else_finds_the_way() {
    let house = House::open();
    let (anna, berta) = (house.person("anna").await, house.person("berta").await);
    let team = house.team(&anna, "House").await;
    house.add(&anna, team, berta.id, "guest").await;
    let paths = [
        "/internal/identity".to_owned(),
        format!("/internal/users/{}", anna.id),
        format!("/internal/teams/{team}/members"),
    ];
    for path in &paths {
        for key in [None, Some(""), Some("wrong")] {
            let answer = house.internal(path, key, Some(&anna.token)).await;
            assert_eq!((answer.status, answer.error().0), (404, "not_found"), "{path}");
        }
    }
    let identity = house.internal(&paths[0], Some(SERVICE_KEY), Some(&anna.token)).await;
    assert_eq!(identity.status, 200);
    assert_eq!(identity.body["user"]["id"], anna.id);
    assert_eq!(identity.body["user"]["email"], "anna@example.com");
    assert_eq!(identity.body["user"]["administrator"], true);
    assert!(identity.body["sessionId"].is_i64());
    let teams = identity.body["teams"].as_array().unwrap();
    assert_eq!((&teams[0]["personal"], &teams[0]["role"]), (&json!(true), &json!("owner")));
    assert_eq!((&teams[1]["id"], &teams[1]["name"]), (&json!(team), &json!("House")));
    assert_eq!(house.internal(&paths[0], Some(SERVICE_KEY), None).await.status, 401);
    let user = house.internal(&paths[1], Some(SERVICE_KEY), None).await.body;
    assert_eq!(user["email"], "anna@example.com");
    let nobody = house.internal("/internal/users/99", Some(SERVICE_KEY), None).await;
    assert_eq!((nobody.status, nobody.body), (200, Value::Null));
    let members = house.internal(&paths[2], Some(SERVICE_KEY), None).await.body;
    assert!(members.to_string().contains("\"guest\""));
    let gone = house.internal("/internal/teams/99/members", Some(SERVICE_KEY), None).await;
    assert_eq!((gone.status, gone.body), (200, json!([])));

    house.post("/auth/logout", Some(&anna.token), Value::Null).await;
    let identity = house.internal(&paths[0], Some(SERVICE_KEY), Some(&anna.token)).await;
    assert_eq!(identity.status, 401, "log-out holds at once");
    assert_eq!(house.login("anna", PASSWORD).await.status, 200);
}
