use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ApiKey, BrokerId, ListOffsetsRequest, RequestKind, ResponseKind};
use uuid::Uuid;
use wire::ErrorCode;
use wire::batch::{BatchView, RecordLimits, records};

use tokio::time::Instant;

use crate::client::{Client, Running};
use crate::every_version::topic_id;
use crate::requests::{batch, fetch, produce, topic_name};

const ALL: (i32, i32, i32) = (1, 1 << 20, 0);

fn produced(client: &mut Client, version: i16, request: &RequestKind) -> PartitionProduceResponse {
    match client.call(ApiKey::Produce, version, request) {
        ResponseKind::Produce(mut response) => {
            response.responses.remove(0).partition_responses.remove(0)
        }
        _ => panic!("another response"),
    }
}

fn fetched(client: &mut Client, version: i16, request: &RequestKind) -> PartitionData {
    match client.call(ApiKey::Fetch, version, request) {
        ResponseKind::Fetch(mut response) => response.responses.remove(0).partitions.remove(0),
        _ => panic!("another response"),
    }
}

fn values(records_of: Option<&Bytes>) -> Vec<String> {
    let mut values = Vec::new();
    for view in wire::batch::batches(records_of.map(AsRef::as_ref).unwrap_or_default()) {
        view.verify_crc().unwrap();
        let mut reader = records(&view, RecordLimits::default()).unwrap();
        while let Some(record) = reader.next_record() {
            let record = record.unwrap();
            assert_eq!(record.headers().count(), 2);
            values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

#[test]
fn what_was_produced_is_fetched_byte_for_byte_in_every_version() {
    let broker = Running::start();
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    for (index, version) in (3..=13).enumerate() {
        let sent = batch(1_000, &["a", "b"]);
        let acks = if version % 2 == 0 { 1 } else { -1 };
        let answer = produced(&mut client, version, &produce(version, topic, acks, sent.clone()));
        let base = i64::try_from(index).unwrap() * 2;
        assert_eq!((answer.error_code, answer.base_offset), (0, base));
        for version in 4..=18 {
            let read =
                fetched(&mut client, version, &fetch(version, topic, base, (1, 1 << 20, 5_000)));
            assert_eq!((read.error_code, read.high_watermark), (0, base + 2), "v{version}");
            let bytes = read.records.unwrap();
            assert_eq!(bytes[16..], sent[16..]);
            assert_eq!(BatchView::parse(&bytes).unwrap().header.base_offset.0, base);
        }
    }
}

#[test]
fn an_offset_within_a_batch_is_answered_with_the_whole_batch() {
    let broker = Running::start();
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    produced(&mut client, 9, &produce(9, topic, -1, batch(5, &["a", "b", "c"])));
    let read = fetched(&mut client, 12, &fetch(12, topic, 2, ALL));
    assert_eq!(values(read.records.as_ref()), ["a", "b", "c"]);
}

#[test]
fn the_first_batch_comes_whole_and_the_next_only_if_it_fits() {
    let broker = Running::start();
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    for value in ["first", "second", "third"] {
        produced(&mut client, 9, &produce(9, topic, -1, batch(5, &[value])));
    }
    let one = batch(5, &["first"]).len();
    let read = |client: &mut Client, max: usize| {
        let max = i32::try_from(max).unwrap();
        values(fetched(client, 12, &fetch(12, topic, 0, (1, max, 0))).records.as_ref())
    };
    assert_eq!(read(&mut client, 1), ["first"]);
    assert_eq!(read(&mut client, 2 * one + 1), ["first", "second"]);
    assert_eq!(read(&mut client, 2 * one), ["first"]);
}

#[test]
fn batches_of_every_size_arrive_as_they_were_sent() {
    let broker = Running::start();
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    for size in [10, 40_000, 33_000, 700_000, 100] {
        let sent = batch(5, &[&"x".repeat(size)]);
        let base = produced(&mut client, 9, &produce(9, topic, -1, sent.clone())).base_offset;
        let read = fetched(&mut client, 12, &fetch(12, topic, base, ALL));
        assert_eq!(read.records.unwrap()[16..], sent[16..], "{size}");
    }
    let all = fetched(&mut client, 12, &fetch(12, topic, 0, ALL));
    let lengths: Vec<_> = values(all.records.as_ref()).iter().map(String::len).collect();
    assert_eq!(lengths, [10, 40_000, 33_000, 700_000, 100]);
}

#[test]
fn a_fetch_at_the_end_waits_for_the_next_record_and_no_longer_than_asked() {
    let broker = Running::start();
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    let begun = Instant::now();
    let read = fetched(&mut client, 12, &fetch(12, topic, 0, (1, 1 << 20, 300)));
    assert_eq!((read.error_code, values(read.records.as_ref()).len()), (0, 0));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    client.send(ApiKey::Fetch, 12, &fetch(12, topic, 0, (1, 1 << 20, 15_000)));
    let begun = Instant::now();
    produced(&mut broker.client(), 9, &produce(9, topic, -1, batch(5, &["news"])));
    let (_, mut body) = client.receive(ApiKey::Fetch, 12);
    let ResponseKind::Fetch(response) = ResponseKind::decode(ApiKey::Fetch, &mut body, 12).unwrap()
    else {
        panic!("another response");
    };
    assert_eq!(values(response.responses[0].partitions[0].records.as_ref()), ["news"]);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn offsets_outside_the_log_and_unknown_topics_and_epochs_have_their_own_errors() {
    let broker = Running::start();
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    let code = |client: &mut Client, topic, offset| {
        let read = fetched(client, 13, &fetch(13, topic, offset, (1, 1 << 20, 5_000)));
        assert!(
            read.error_code == 0
                || (read.high_watermark == -1 && read.records == Some(Bytes::new()))
        );
        ErrorCode(read.error_code)
    };
    assert_eq!(code(&mut client, topic, 1), ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(code(&mut client, topic, -1), ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(code(&mut client, ("t", Uuid::from_u128(9)), 0), ErrorCode::UNKNOWN_TOPIC_ID);
    let read = fetched(&mut client, 12, &fetch(12, ("never", Uuid::nil()), 0, ALL));
    assert_eq!(ErrorCode(read.error_code), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let mut wrong = fetch(12, topic, 0, ALL);
    if let RequestKind::Fetch(request) = &mut wrong {
        request.topics[0].partitions[0].current_leader_epoch = 7;
    }
    assert_eq!(
        ErrorCode(fetched(&mut client, 12, &wrong).error_code),
        ErrorCode::UNKNOWN_LEADER_EPOCH
    );
}

#[test]
fn bad_batches_are_refused_and_nothing_is_appended() {
    let broker = Running::start();
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    let mut corrupt = batch(5, &["a"]).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let tomorrow = i64::MAX / 2;
    for (records, code) in [
        (Bytes::new(), ErrorCode::INVALID_RECORD),
        (Bytes::from(corrupt), ErrorCode::CORRUPT_MESSAGE),
        (batch(tomorrow, &["a"]), ErrorCode::INVALID_TIMESTAMP),
        (batch(5, &["x".repeat(2_000_000).as_str()]), ErrorCode::MESSAGE_TOO_LARGE),
    ] {
        for version in [3, 8, 13] {
            let answer =
                produced(&mut client, version, &produce(version, topic, -1, records.clone()));
            assert_eq!((ErrorCode(answer.error_code), answer.base_offset), (code, -1));
            let names_the_record = !answer.record_errors.is_empty();
            assert_eq!(names_the_record, version >= 8 && code == ErrorCode::INVALID_TIMESTAMP);
        }
    }
    let acks = produced(&mut client, 9, &produce(9, topic, 2, batch(5, &["a"])));
    assert_eq!(ErrorCode(acks.error_code), ErrorCode::INVALID_REQUIRED_ACKS);
    let internal = produce(9, ("__consumer_offsets", Uuid::nil()), -1, batch(5, &["a"]));
    let internal = produced(&mut client, 9, &internal);
    assert_eq!(ErrorCode(internal.error_code), ErrorCode::INVALID_TOPIC_EXCEPTION);
    let answer = produced(&mut client, 9, &produce(9, topic, -1, batch(5, &["a"])));
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
}

#[test]
fn acks_0_has_no_answer_and_an_error_ends_the_connection() {
    let broker = Running::start();
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    client.send(ApiKey::Produce, 9, &produce(9, topic, 0, batch(5, &["a"])));
    let read = fetched(&mut client, 12, &fetch(12, topic, 0, (1, 1 << 20, 5_000)));
    assert_eq!(values(read.records.as_ref()), ["a"]);
    client.send(ApiKey::Produce, 9, &produce(9, ("never", Uuid::nil()), 0, batch(5, &["a"])));
    assert!(client.is_closed());
}

#[test]
fn timestamps_find_their_records_inside_batches() {
    let broker = Running::start();
    let mut client = broker.client();
    let topic = ("t", topic_id(&mut client, "t"));
    for time in [100, 300, 200] {
        produced(&mut client, 9, &produce(9, topic, -1, batch(time, &["a", "b"])));
    }
    let mut find = |version: i16, timestamp| {
        let partition =
            ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
        let topic =
            ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        let request =
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let request = RequestKind::ListOffsets(request);
        let ResponseKind::ListOffsets(response) =
            client.call(ApiKey::ListOffsets, version, &request)
        else {
            panic!("another response");
        };
        let found = &response.topics[0].partitions[0];
        (ErrorCode(found.error_code), found.offset, found.timestamp)
    };
    let none = ErrorCode::NONE;
    assert_eq!(find(1, -1), (none, 6, -1));
    assert_eq!(find(1, -2), (none, 0, -1));
    assert_eq!(find(5, 0), (none, 0, 100));
    assert_eq!(find(5, 150), (none, 2, 300));
    assert_eq!(find(5, 301), (none, -1, -1));
    assert_eq!(find(7, -3), (none, 2, 300));
    assert_eq!(find(8, -4), (none, 0, -1));
    assert_eq!(find(9, -5), (none, -1, -1));
    assert_eq!(find(6, -3), (ErrorCode::UNSUPPORTED_VERSION, -1, -1));
}
