use super::*;

/// A write of Anna's, or of nobody in particular, with its key.
async fn write(house: &House, person: Option<&Person>, line: (&str, &str, &Value)) -> Answer {
    keyed(house, person, line, line.1).await
}

async fn keyed(
    house: &House,
    person: Option<&Person>,
    (method, path, body): (&str, &str, &Value),
    key: &str,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("idempotency-key", key);
    if let Some(person) = person {
        request = request.header("authorization", format!("Bearer {}", person.token));
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = request.header("content-type", "application/json");
    house.call(request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn every_write_is_done_once_however_often_it_is_asked_for_with_one_key() {
    let house = House::open();
    let (anna, berta) = (house.person("anna").await, house.person("berta").await);
    house.login("anna", PASSWORD).await;
    let team = house.team(&anna, "House").await;
    let other = house.team(&berta, "Garden").await;
    let garden = format!("/teams/{other}/invitations");
    let invited = house.post(&garden, Some(&berta.token), json!({})).await;
    let extra =
        house.post(&format!("/teams/{team}/invitations"), Some(&anna.token), json!({})).await;
    let at = |rest: &str| format!("/teams/{team}{rest}");
    let (member, extra) = (at(&format!("/members/{}", berta.id)), extra.body["id"].to_string());
    let new_password = json!({"currentPassword": PASSWORD, "newPassword": "another horse"});
    for (method, path, body, status) in [
        ("POST", "/teams".to_owned(), json!({"name": "Boat"}), 201),
        ("PATCH", at(""), json!({"name": "Home"}), 200),
        ("POST", at("/members"), json!({"userId": berta.id, "role": "guest"}), 201),
        ("PATCH", member.clone(), json!({"role": "member"}), 200),
        ("DELETE", member, Value::Null, 204),
        ("DELETE", at(&format!("/invitations/{extra}")), Value::Null, 204),
        ("POST", format!("/invitations/{}/accept", invited.text("code")), Value::Null, 200),
        ("DELETE", at(""), Value::Null, 204),
        ("PATCH", "/auth/me".to_owned(), json!({"username": "anne"}), 200),
        ("DELETE", "/auth/sessions".to_owned(), Value::Null, 204),
        ("PUT", "/auth/password".to_owned(), new_password, 204),
    ] {
        let first = write(&house, Some(&anna), (method, &path, &body)).await;
        assert_eq!(first.status, status, "{method} {path} {}", first.body);
        let events = house.events().len();
        let second = write(&house, Some(&anna), (method, &path, &body)).await;
        assert_eq!((second.status, &second.body), (status, &first.body), "{method} {path}");
        assert_eq!(house.events().len(), events, "{method} {path}");
    }
    assert_eq!(house.login("anne", "another horse").await.status, 200);
}

#[tokio::test]
async fn a_key_belongs_to_one_body_and_one_person() {
    let house = House::open();
    let (anna, berta) = (house.person("anna").await, house.person("berta").await);
    let (home, other) = (json!({"name": "House"}), json!({"name": "Other"}));
    let make = async |person: &Person, body: &Value| {
        write(&house, Some(person), ("POST", "/teams", body)).await
    };
    let first = make(&anna, &home).await;
    let reused = make(&anna, &other).await;
    assert_eq!((reused.status, reused.error().0), (422, "idempotency_key_reused"));
    assert_ne!(make(&berta, &home).await.body["id"], first.body["id"]);
    let passwords = |new: &str| json!({"currentPassword": PASSWORD, "newPassword": new});
    let set = async |new: &str| {
        write(&house, Some(&anna), ("PUT", "/auth/password", &passwords(new))).await
    };
    assert_eq!(set("another horse").await.status, 204);
    let reused = set("a third horse").await;
    assert_eq!((reused.status, reused.error().0), (422, "idempotency_key_reused"));
    assert_eq!(house.login("anna", "another horse").await.status, 200);
}

#[tokio::test]
async fn registering_again_with_the_key_is_the_same_account_only_with_the_same_password() {
    let house = House::open();
    let register = async |password: &str, key: &str| {
        let body = json!({"username": "anna", "email": "a@example.com", "password": password});
        keyed(&house, None, ("POST", "/auth/register", &body), key).await
    };
    let first = register("correct horse", "one").await;
    let second = register("correct horse", "one").await;
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(first.body, second.body);
    assert_eq!(register("other horse", "one").await.error().0, "idempotency_key_reused");
    assert_eq!(register("correct horse", "two").await.status, 409);
    assert_eq!(house.count("user.created"), 1);
}

#[tokio::test]
async fn a_reset_is_confirmed_once_and_can_be_asked_about() {
    let house = House::open();
    house.person("anna").await;
    house.post("/auth/password-reset", None, json!({"email": "anna@example.com"})).await;
    let token = house.reset_token(1).await;
    let confirm = async |new: &str, key: &str| {
        let body = json!({"token": token, "newPassword": new});
        keyed(&house, None, ("POST", "/auth/password-reset/confirm", &body), key).await
    };
    assert_eq!(confirm("another horse", "one").await.status, 204);
    assert_eq!(confirm("another horse", "one").await.status, 204);
    assert_eq!(confirm("a third horse", "one").await.error().0, "idempotency_key_reused");
    assert_eq!(confirm("another horse", "two").await.error().1, Some("token"));
    assert_eq!(house.login("anna", "another horse").await.status, 200);
}

#[tokio::test]
async fn an_invitations_code_is_in_its_first_answer_only() {
    let house = House::open();
    let anna = house.person("anna").await;
    let team = house.team(&anna, "House").await;
    let path = format!("/teams/{team}/invitations");
    let invite = async || write(&house, Some(&anna), ("POST", &path, &json!({}))).await;
    let (mut first, second) = (invite().await, invite().await);
    assert!(first.body.as_object_mut().unwrap().remove("code").is_some());
    assert_eq!(second.body, first.body);
    let open = house.get(&path, Some(&anna.token)).await.body;
    assert_eq!(open["items"].as_array().unwrap().len(), 1);
}

#[test]
fn every_write_but_these_takes_a_key() {
    // A log-in is a new session each time; the others leave nothing to ask about, or nobody who could ask.
    let without =
        ["post /auth/login", "post /auth/logout", "post /auth/password-reset", "delete /auth/me"];
    let document = serde_json::to_value(super::super::routes().to_openapi()).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, route) in methods.as_object().unwrap() {
            let route = route.to_string();
            let reads = method == "get" || without.contains(&format!("{method} {path}").as_str());
            assert_eq!(route.contains("Idempotency-Key"), !reads, "{method} {path}");
        }
    }
}
