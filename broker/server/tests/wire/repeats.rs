//! Requests that name a thing again and again: the answer tells of it once.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind};
use storage::simulation::process::{alone, resident_bytes};
use uuid::Uuid;

use crate::client::{Client, Running};
use crate::every_version::topic_id;
use crate::requests::{about, fetch};

/// As many as a request may hold, of what it holds most.
const TIMES: usize = 10_000;
const MIB: usize = 1 << 20;

fn repeat<T: Clone>(items: &mut Vec<T>) {
    *items = std::iter::repeat_n(items.clone(), TIMES).flatten().collect();
}

/// The same request with everything in its list many times.
fn often(request: &RequestKind) -> RequestKind {
    let mut request = request.clone();
    match &mut request {
        RequestKind::Metadata(it) => repeat(it.topics.as_mut().unwrap()),
        RequestKind::DescribeConfigs(it) => repeat(&mut it.resources),
        RequestKind::DescribeGroups(it) => repeat(&mut it.groups),
        RequestKind::OffsetFetch(it) => {
            it.groups.iter_mut().for_each(|group| repeat(group.topics.as_mut().unwrap()));
            it.topics.iter_mut().for_each(repeat);
        }
        RequestKind::OffsetForLeaderEpoch(it) => repeat(&mut it.topics),
        RequestKind::Fetch(it) => it.topics.iter_mut().for_each(|one| repeat(&mut one.partitions)),
        _ => panic!("an API that names things in no list"),
    }
    request
}

fn asked(client: &mut Client, key: ApiKey, version: i16, request: &RequestKind) -> Bytes {
    let mut body = BytesMut::new();
    request.encode(&mut body, version).unwrap();
    client.send_raw(key, version, &body);
    client.receive(key, version).1
}

#[test]
fn an_answer_does_not_grow_with_how_often_a_thing_is_named() {
    alone("repeats::an_answer_does_not_grow_with_how_often_a_thing_is_named", || {
        let broker = Running::start();
        let mut client = broker.client();
        let topic = ("t", topic_id(&mut client, "t"));
        let before = resident_bytes();
        for (key, version) in [
            (ApiKey::Metadata, 9),
            (ApiKey::Metadata, 12),
            (ApiKey::DescribeConfigs, 4),
            (ApiKey::DescribeGroups, 5),
            (ApiKey::OffsetFetch, 7),
            (ApiKey::OffsetFetch, 8),
            (ApiKey::OffsetForLeaderEpoch, 4),
            (ApiKey::Fetch, 12),
        ] {
            let once = about(key, version, topic).unwrap();
            let answer = asked(&mut client, key, version, &once);
            let again = asked(&mut client, key, version, &often(&once));
            assert_eq!(again, answer, "{key:?} v{version}");
        }
        assert!(resident_bytes() < before + 64 * MIB);
    });
}

#[test]
fn groups_that_are_named_often_are_told_of_once() {
    let broker = Running::start();
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    let RequestKind::OffsetFetch(mut request) = about(ApiKey::OffsetFetch, 8, topic).unwrap()
    else {
        panic!("another request");
    };
    let once = RequestKind::OffsetFetch(request.clone());
    repeat(&mut request.groups);
    let answer = asked(&mut client, ApiKey::OffsetFetch, 8, &once);
    assert_eq!(
        asked(&mut client, ApiKey::OffsetFetch, 8, &RequestKind::OffsetFetch(request)),
        answer
    );
}

#[test]
fn fetches_that_wait_for_a_partition_named_often_hold_nobody_up() {
    let broker = Running::start();
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    let waiting = often(&fetch(12, topic, 0, (1, 1 << 20, 60_000)));
    let mut clients: Vec<Client> = (0..8).map(|_| broker.client()).collect();
    for waiter in &mut clients {
        waiter.send(ApiKey::Fetch, 12, &waiting);
    }
    drop(clients);
    assert_ne!(topic_id(&mut client, "another"), Uuid::nil());
}
