//! Records that other programs put on the open topics: none stops a service, none makes it do what it must not.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::json;

use crate::{
    harness::{Appliance, eventually, records},
    mail::becomes,
    world::{World, ok},
};

/// What `user.created` says of a person.
fn created(user_id: i64, email: &str) -> Vec<u8> {
    let payload = json!({"email": email, "username": "dora"});
    json!({"userId": user_id, "payload": payload}).to_string().into_bytes()
}

#[tokio::test]
async fn a_header_whose_name_is_no_text_stops_no_service() {
    let app = Appliance::start().await;
    let anna = app.person("anna").await;
    produce(&app, "user.created", b"\xff\xfe", &created(99, "dora@example.com"));
    becomes(&app, &anna, "dora@example.com", "sent").await;
}

#[tokio::test]
async fn a_record_that_is_too_large_is_a_dead_letter_without_its_content() {
    let app = Appliance::start().await;
    let anna = app.person("anna").await;
    let most = vec![b'x'; 1_048_000];
    produce(&app, "user.created", b"", &most);
    produce(&app, "user.created", b"", &created(99, "dora@example.com"));
    becomes(&app, &anna, "dora@example.com", "sent").await;
    assert_eq!(records(&app.brokers(), "user.created.dlq").len(), 1);
}

#[tokio::test]
async fn tasks_go_with_a_team_that_auth_has_deleted_and_with_no_other() {
    let app = Appliance::start().await;
    let world = World::new(&app).await;
    let (anna, task) = (&world.people[0], format!("/tasks/{}", world.tasks[0]));
    let forged = json!({"teamId": world.team, "userId": 7}).to_string();
    produce(&app, "team.deleted", b"", forged.as_bytes());
    eventually("the record to be ignored", async || {
        let lines = app.log_lines();
        lines.iter().any(|line| line.contains("auth says otherwise")).then_some(())
    })
    .await;
    ok(app.get(anna, &task).await);
    assert_eq!(app.delete(anna, &format!("/teams/{}", world.team)).await.status, 204);
    eventually("the events of the team's tasks", async || {
        (records(&app.brokers(), "task.deleted").len() == world.tasks.len()).then_some(())
    })
    .await;
}

/// Produces a record with one header, whose name may be what no client library lets through.
fn produce(app: &Appliance, topic: &str, header: &[u8], value: &[u8]) {
    let mut record = vec![0, 0, 0, 1];
    bytes(&mut record, value);
    record.push(2);
    bytes(&mut record, header);
    bytes(&mut record, b"");
    // Without a time: a record of 1970 would be deleted whenever retention comes by.
    let mut rest = [&[0; 6][..], &[0xff; 16], &[0xff; 14], &1_i32.to_be_bytes()].concat();
    bytes(&mut rest, &record);
    let mut batch = [&[0xff; 4][..], &[2], &crc32c(&rest).to_be_bytes(), &rest].concat();
    batch = [&[0; 8][..], &length(&batch), &batch].concat();

    // Produce version 3: no client id, no transactional id, acks=all, a timeout, one topic, its partition 0.
    let mut request = [&[0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff][..], &[0xff; 4]].concat();
    request.extend(10_000_i32.to_be_bytes());
    request.extend([0, 0, 0, 1, 0, u8::try_from(topic.len()).unwrap()]);
    request.extend(topic.as_bytes());
    request.extend([0, 0, 0, 1, 0, 0, 0, 0]);
    request.extend(length(&batch));
    request.extend(batch);
    let mut connection = TcpStream::connect(app.brokers()).unwrap();
    connection.write_all(&[&length(&request)[..], &request].concat()).unwrap();
    // Length and correlation id; topics, name; partitions, index; the error.
    let mut answer = vec![0; 8 + 4 + 2 + topic.len() + 4 + 4 + 2];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(answer[answer.len() - 2..], [0, 0], "the broker refused the record");
}

fn length(bytes: &[u8]) -> [u8; 4] {
    i32::try_from(bytes.len()).unwrap().to_be_bytes()
}

/// Appends `content` behind its length as a varint.
fn bytes(to: &mut Vec<u8>, content: &[u8]) {
    let mut left = content.len() << 1;
    while left > 0x7f {
        to.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    to.push(u8::try_from(left).unwrap());
    to.extend(content);
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
        })
    })
}
