use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestKind, ResponseKind,
};
use kafka_protocol::protocol::{Decodable, Encodable};
use uuid::Uuid;

use crate::client::{Client, Running};
use crate::requests;

pub(crate) fn api_versions(client: &mut Client) -> ApiVersionsResponse {
    let request = RequestKind::ApiVersions(ApiVersionsRequest::default());
    let ResponseKind::ApiVersions(versions) = client.call(ApiKey::ApiVersions, 0, &request) else {
        panic!("another response");
    };
    versions
}

/// The id of a topic that the question creates.
pub(crate) fn topic_id(client: &mut Client, name: &str) -> Uuid {
    let request = requests::about(ApiKey::Metadata, 13, (name, Uuid::nil())).unwrap();
    let ResponseKind::Metadata(metadata) = client.call(ApiKey::Metadata, 13, &request) else {
        panic!("another response");
    };
    assert_eq!(metadata.topics[0].error_code, 0);
    metadata.topics[0].topic_id
}

#[test]
fn every_advertised_version_is_answered_in_its_own_form() {
    let broker = Running::start();
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    let mut answered = 0;
    for api in api_versions(&mut client).api_keys {
        let key = ApiKey::try_from(api.api_key).unwrap();
        for version in api.min_version..=api.max_version {
            if matches!((key, version), (ApiKey::Produce, 0..=2))
                || matches!(
                    (key, version),
                    (ApiKey::CreateTopics, 0..=1)
                        | (ApiKey::DeleteTopics | ApiKey::DescribeConfigs, 0)
                )
            {
                continue;
            }
            let request = requests::about(key, version, topic)
                .unwrap_or_else(|| panic!("{key:?} is served and not tested"));
            // A failed authentication ends its connection, so each has one of its own.
            let mut client = broker.client();
            client.call(key, version, &request);
            answered += 1;
        }
    }
    assert!(answered > 150, "{answered}");
}

#[test]
fn versions_that_old_clients_still_send_are_answered_in_their_form() {
    let broker = Running::as_shipped();
    let mut client = broker.client();
    let name = b"\0\0\0\x01\0\x03old";
    let create = [name.as_slice(), b"\0\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0\0\x03\xe8"].concat();
    client.send_raw(ApiKey::CreateTopics, 0, &create);
    assert_eq!(client.receive(ApiKey::CreateTopics, 0).1, [name.as_slice(), b"\0\0"].concat());
    client.send_raw(ApiKey::CreateTopics, 1, &[create.as_slice(), b"\0"].concat());
    let exists = client.receive(ApiKey::CreateTopics, 1).1;
    assert_eq!(exists[..11], [name.as_slice(), b"\0\x24"].concat());
    let describe = b"\0\0\0\x01\x02\0\x03old\0\0\0\x01\0\x0cretention.ms";
    client.send_raw(ApiKey::DescribeConfigs, 0, describe);
    let expected = b"\0\0\0\0\0\0\0\x01\0\0\xff\xff\x02\0\x03old\0\0\0\x01\0\x0cretention.ms\0\x09604800000\0\x01\0";
    assert_eq!(client.receive(ApiKey::DescribeConfigs, 0).1, expected.as_slice());
    client.send_raw(ApiKey::DeleteTopics, 0, &[name.as_slice(), b"\0\0\x03\xe8"].concat());
    assert_eq!(client.receive(ApiKey::DeleteTopics, 0).1, [name.as_slice(), b"\0\0"].concat());
}

#[test]
fn an_unknown_version_of_api_versions_is_told_the_known_ones() {
    let broker = Running::start();
    let mut client = broker.client();
    client.send_raw(ApiKey::ApiVersions, 9, b"\xff\xff\xff\xff");
    let (_, mut body) = client.receive(ApiKey::ApiVersions, 0);
    let told = ApiVersionsResponse::decode(&mut body, 0).unwrap();
    assert_eq!(
        (told.error_code, told.api_keys[0].min_version, told.api_keys[0].max_version),
        (35, 0, 4)
    );
    assert!(api_versions(&mut client).api_keys.len() > 30);
    let mut unnamed = bytes::BytesMut::new();
    ApiVersionsRequest::default().encode(&mut unnamed, 3).unwrap();
    client.send_raw(ApiKey::ApiVersions, 3, &unnamed);
    let (_, mut body) = client.receive(ApiKey::ApiVersions, 3);
    assert_eq!(ApiVersionsResponse::decode(&mut body, 3).unwrap().error_code, 42);
}

#[test]
fn features_from_level_0_are_told_to_those_who_can_read_them() {
    let broker = Running::start();
    let mut client = broker.client();
    let names = |client: &mut Client, version| {
        let request = requests::about(ApiKey::ApiVersions, version, ("t", Uuid::nil())).unwrap();
        let ResponseKind::ApiVersions(told) = client.call(ApiKey::ApiVersions, version, &request)
        else {
            panic!("another response");
        };
        assert!(told.finalized_features_epoch >= 0);
        assert!(
            told.finalized_features
                .iter()
                .all(|feature| feature.min_version_level == feature.max_version_level)
        );
        told.supported_features.iter().map(|feature| feature.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&mut client, 3), ["metadata.version"]);
    assert_eq!(names(&mut client, 4), ["metadata.version", "transaction.version"]);
}

#[test]
fn requests_sent_at_once_are_answered_in_their_order() {
    let broker = Running::start();
    let mut client = broker.client();
    let id = topic_id(&mut client, "t");
    let mut sent = Vec::new();
    for index in 0..50 {
        let key = if index % 3 == 0 { ApiKey::Metadata } else { ApiKey::Produce };
        let request = requests::about(key, 9, ("t", id)).unwrap();
        sent.push((key, client.send(key, 9, &request)));
    }
    for (key, correlation_id) in sent {
        assert_eq!(client.receive(key, 9).0, correlation_id);
    }
}
