use ::wire::ErrorCode;
use bytes::Bytes;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, SaslAuthenticateRequest,
    SaslHandshakeRequest,
};

use crate::wire::{Client, House, SERVICE_KEY, text};

const CLOSED: &str = "__auth.owner";

fn token(password: &[u8]) -> Bytes {
    Bytes::from([b"\0service\0", password].concat())
}

async fn handshake(client: &mut Client, version: i16) {
    let request = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
    let answer = client.call(version, &request).await;
    assert_eq!((answer.error_code, answer.mechanisms), (0, vec![text("PLAIN")]));
}

/// What a closed group says: that one may not, or that there is no such member.
async fn knock(client: &mut Client) -> i16 {
    let request = HeartbeatRequest::default().with_group_id(GroupId(text(CLOSED)));
    client.call(4, &request).await.error_code
}

#[tokio::test]
async fn the_service_key_opens_what_is_closed_to_everyone_else() {
    let mut house = House::start().await;
    for version in 0..=2 {
        let mut client = house.client().await;
        assert_eq!(knock(&mut client).await, ErrorCode::GROUP_AUTHORIZATION_FAILED.0);
        handshake(&mut client, 1).await;
        let request = SaslAuthenticateRequest::default().with_auth_bytes(token(SERVICE_KEY));
        let answer = client.call(version, &request).await;
        assert_eq!((answer.error_code, answer.session_lifetime_ms), (0, 0));
        assert_eq!(knock(&mut client).await, ErrorCode::UNKNOWN_MEMBER_ID.0);
    }
    house.stop().await;
}

#[tokio::test]
async fn a_wrong_key_is_told_so_and_then_the_connection_ends() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    handshake(&mut client, 1).await;
    let request = SaslAuthenticateRequest::default().with_auth_bytes(token(b"guess"));
    client.send(2, &request).await;
    client.send_frame(b"what comes after is not read").await;
    let mut frame = client.receive_frame().await.unwrap();
    let code = frame.split_off(5).slice(..2);
    assert_eq!(code[..], ErrorCode::SASL_AUTHENTICATION_FAILED.0.to_be_bytes());
    assert!(client.receive_frame().await.is_none());
    house.stop().await;
}

#[tokio::test]
async fn an_unknown_mechanism_is_refused_with_those_there_are() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    for version in 0..=1 {
        let request = SaslHandshakeRequest::default().with_mechanism(text("GSSAPI"));
        let answer = client.call(version, &request).await;
        assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_SASL_MECHANISM.0);
        assert_eq!(answer.mechanisms, [text("PLAIN")]);
    }
    let request = FindCoordinatorRequest::default().with_key(text("mine"));
    assert_eq!(client.call(0, &request).await.error_code, 0);
    house.stop().await;
}

#[tokio::test]
async fn tokens_come_bare_after_a_handshake_of_version_0() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    handshake(&mut client, 0).await;
    client.send_frame(&token(SERVICE_KEY)).await;
    assert!(client.receive_frame().await.unwrap().is_empty());
    assert_eq!(knock(&mut client).await, ErrorCode::UNKNOWN_MEMBER_ID.0);

    handshake(&mut client, 0).await;
    client.send_frame(&token(b"guess")).await;
    assert!(client.receive_frame().await.is_none());
    house.stop().await;
}
