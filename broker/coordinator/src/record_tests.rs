use std::fmt::Write as _;

use super::*;

fn round_trip_group(record: &GroupRecord) -> (String, Option<String>) {
    let (key, value) = record.encode();
    assert_eq!(GroupRecord::decode(&key, value.as_deref()).as_ref(), Ok(record));
    (hex(&key), value.as_deref().map(hex))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

#[test]
fn a_committed_offset_has_kafkas_bytes() {
    let (key, value) = round_trip_group(&GroupRecord::Offset {
        group_id: "g".to_owned(),
        topic: "t".to_owned(),
        partition: PartitionIndex(3),
        value: Some(CommittedOffset {
            offset: Offset(5),
            leader_epoch: LeaderEpoch(0),
            metadata: "m".to_owned(),
            commit_timestamp: TimestampMs(9),
            expire_timestamp: None,
        }),
    });
    assert_eq!(key, "0001000167000174 00000003".replace(' ', ""));
    assert_eq!(
        value.unwrap(),
        "0003 0000000000000005 00000000 00016d 0000000000000009".replace(' ', "")
    );
}

#[test]
fn an_offset_with_expiry_is_version_one() {
    let (_, value) = round_trip_group(&GroupRecord::Offset {
        group_id: "g".to_owned(),
        topic: "t".to_owned(),
        partition: PartitionIndex(3),
        value: Some(CommittedOffset {
            offset: Offset(5),
            leader_epoch: LeaderEpoch(-1),
            metadata: String::new(),
            commit_timestamp: TimestampMs(9),
            expire_timestamp: Some(TimestampMs(10)),
        }),
    });
    assert_eq!(
        value.unwrap(),
        "0001 0000000000000005 0000 0000000000000009 000000000000000a".replace(' ', "")
    );
}

#[test]
fn group_metadata_and_tombstones_round_trip() {
    let member = MemberMetadata {
        member_id: "m".to_owned(),
        group_instance_id: Some("i".to_owned()),
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_timeout_ms: 300_000,
        session_timeout_ms: 45_000,
        subscription: Bytes::from_static(b"\x00\x01"),
        assignment: Bytes::from_static(b"\x00\x02"),
    };
    let group = GroupMetadata {
        protocol_type: "consumer".to_owned(),
        generation_id: 4,
        protocol: Some("range".to_owned()),
        leader: Some("m".to_owned()),
        current_state_timestamp: TimestampMs(77),
        members: vec![member],
    };
    round_trip_group(&GroupRecord::Group { group_id: "g".to_owned(), value: Some(group) });
    let (_, value) =
        round_trip_group(&GroupRecord::Group { group_id: "g".to_owned(), value: None });
    assert_eq!(value, None);
}

#[test]
fn a_transaction_has_kafkas_bytes() {
    let record = TransactionRecord {
        transactional_id: "tx".to_owned(),
        value: Some(TransactionMetadata {
            producer_id: ProducerId(1),
            previous_producer_id: ProducerId(0),
            producer_epoch: ProducerEpoch(2),
            timeout_ms: 60_000,
            status: TransactionStatus::Ongoing,
            partitions: [("a".to_owned(), PartitionIndex(0)), ("a".to_owned(), PartitionIndex(1))]
                .into(),
            last_update_timestamp: TimestampMs(7),
            start_timestamp: TimestampMs(6),
            client_transaction_version: 2,
        }),
    };
    let (key, value) = record.encode();
    let value = value.unwrap();
    assert_eq!(TransactionRecord::decode(&key, Some(&value)), Ok(record));
    assert_eq!(hex(&key), "000000027478");
    assert_eq!(
        hex(&value),
        "0001 0000000000000001 0002 0000ea60 01 02 0261 03 00000000 00000001 00 \
         0000000000000007 0000000000000006 02 00 08 0000000000000000 02 02 0002"
            .replace(' ', "")
    );
}

#[test]
fn a_record_cut_anywhere_is_refused_and_never_panics() {
    let record = TransactionRecord {
        transactional_id: "tx".to_owned(),
        value: Some(TransactionMetadata {
            producer_id: ProducerId(1),
            previous_producer_id: ProducerId(0),
            producer_epoch: ProducerEpoch(2),
            timeout_ms: 60_000,
            status: TransactionStatus::Ongoing,
            partitions: [("a".to_owned(), PartitionIndex(0))].into(),
            last_update_timestamp: TimestampMs(7),
            start_timestamp: TimestampMs(6),
            client_transaction_version: 0,
        }),
    };
    let (key, value) = record.encode();
    let value = value.unwrap();
    for length in 0..value.len() {
        assert!(TransactionRecord::decode(&key, value.get(..length)).is_err(), "{length}");
    }
}

#[test]
fn text_that_is_too_long_is_cut_between_two_characters() {
    let record = GroupRecord::Group { group_id: "\u{e9}".repeat(20_000), value: None };
    let (key, _) = record.encode();
    let GroupRecord::Group { group_id, .. } = GroupRecord::decode(&key, None).unwrap() else {
        panic!("{key:?}")
    };
    assert_eq!(group_id.len(), 32_766);
}
