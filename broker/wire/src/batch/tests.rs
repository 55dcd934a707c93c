use std::io::Write;

use bytes::Bytes;

use super::{
    BatchBuilder, BatchError, BatchView, ControlMarker, HEADER_BYTES, Marker, NewRecord,
    ProduceError, ProduceLimits, Record, RecordLimits, batches, checksum, control_marker, marker,
    put, records, rewrite, set_base_offset, set_leader_epoch, set_log_append_time,
    validate_produced,
};
use crate::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

fn limits() -> ProduceLimits {
    ProduceLimits {
        max_message_bytes: 1 << 20,
        requires_key: false,
        allows_zstd: true,
        max_timestamp: TimestampMs(i64::MAX),
        min_timestamp: TimestampMs(0),
        records: RecordLimits::default(),
    }
}

fn plain(count: i64) -> Vec<u8> {
    let mut builder =
        BatchBuilder::new().producer(ProducerId(7), ProducerEpoch(2), Sequence(i32::MAX - 1));
    for index in 0..count {
        builder.push(NewRecord {
            timestamp: TimestampMs(1_000 + index),
            key: Some(format!("key {index}").as_bytes()),
            value: (index % 2 == 0).then_some(b"value".as_slice()),
            headers: &[(b"same", Some(b"1")), (b"same", None), (b"", Some(b""))],
        });
    }
    builder.build().to_vec()
}

fn recompressed(batch: &[u8], codec: u8, payload: &[u8]) -> Bytes {
    let mut bytes = batch[..HEADER_BYTES].to_vec();
    bytes[22] = (bytes[22] & !0b111) | codec;
    bytes.extend_from_slice(payload);
    sealed(bytes)
}

fn sealed(mut bytes: Vec<u8>) -> Bytes {
    let length = i32::try_from(bytes.len() - 12).unwrap();
    put(&mut bytes, 8, &length.to_be_bytes());
    let crc = checksum(&bytes);
    put(&mut bytes, 17, &crc.to_be_bytes());
    Bytes::from(bytes)
}

fn xerial(payload: &[u8]) -> Vec<u8> {
    let mut framed = b"\x82SNAPPY\x00\0\0\0\x01\0\0\0\x01".to_vec();
    for chunk in payload.chunks(40) {
        let block = snap::raw::Encoder::new().compress_vec(chunk).unwrap();
        framed.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(&block);
    }
    framed
}

fn compressed(batch: &[u8]) -> Vec<Bytes> {
    let payload = &batch[HEADER_BYTES..];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(payload).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(payload).unwrap();
    vec![
        Bytes::copy_from_slice(batch),
        recompressed(batch, 1, &gzip.finish().unwrap()),
        recompressed(batch, 2, &snap::raw::Encoder::new().compress_vec(payload).unwrap()),
        recompressed(batch, 2, &xerial(payload)),
        recompressed(batch, 3, &lz4.finish().unwrap()),
        recompressed(batch, 4, &zstd::encode_all(payload, 3).unwrap()),
    ]
}

#[test]
fn a_built_batch_reads_back_record_for_record_in_every_compression() {
    for bytes in compressed(&plain(5)) {
        let view = BatchView::parse(&bytes).unwrap();
        view.verify_crc().unwrap();
        assert_eq!(view.header.next_offset(), Offset(5));
        assert_eq!(view.header.max_timestamp, TimestampMs(1_004));
        assert_eq!(view.header.last_sequence(), Sequence(2));
        let mut reader = records(&view, RecordLimits::default()).unwrap();
        for index in 0..5 {
            let record = reader.next_record().unwrap().unwrap();
            assert_eq!(record.offset, Offset(index));
            assert_eq!(record.timestamp, TimestampMs(1_000 + index));
            assert_eq!(record.key, Some(format!("key {index}").as_bytes()));
            assert_eq!(record.value.is_some(), index % 2 == 0);
            let headers: Vec<_> =
                record.headers().map(|header| (header.key, header.value)).collect();
            assert_eq!(
                headers,
                [(b"same".as_slice(), Some(b"1".as_slice())), (b"same", None), (b"", Some(b""))]
            );
        }
        assert!(reader.next_record().is_none());
        validate_produced(&bytes, &limits(), &mut 0).unwrap();
    }
}

#[test]
fn batches_lie_back_to_back_and_a_torn_one_ends_them() {
    let mut log = plain(2);
    let second = plain(3);
    log.extend_from_slice(&second);
    log.extend_from_slice(&second[..second.len() - 1]);
    let counts: Vec<_> = batches(&log).map(|view| view.header.record_count).collect();
    assert_eq!(counts, [2, 3]);
}

#[test]
fn patching_the_offset_and_epoch_keeps_the_checksum() {
    let mut bytes = plain(2);
    set_base_offset(&mut bytes, Offset(41));
    set_leader_epoch(&mut bytes, LeaderEpoch(3));
    let view = BatchView::parse(&bytes).unwrap();
    view.verify_crc().unwrap();
    assert_eq!(
        (view.header.base_offset, view.header.partition_leader_epoch),
        (Offset(41), LeaderEpoch(3))
    );
}

#[test]
fn log_append_time_replaces_the_timestamps_and_the_checksum() {
    let mut bytes = plain(2);
    set_log_append_time(&mut bytes, TimestampMs(99));
    let view = BatchView::parse(&bytes).unwrap();
    view.verify_crc().unwrap();
    let mut reader = records(&view, RecordLimits::default()).unwrap();
    while let Some(record) = reader.next_record() {
        assert_eq!(record.unwrap().timestamp, TimestampMs(99));
    }
    drop(reader);
    let refused = validate_produced(&Bytes::from(bytes), &limits(), &mut 0).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::INVALID_TIMESTAMP);
}

#[test]
fn a_control_marker_tells_commit_from_abort_and_a_client_may_not_write_one() {
    for kind in [Marker::Commit, Marker::Abort] {
        let bytes = control_marker(&ControlMarker {
            producer_id: ProducerId(9),
            producer_epoch: ProducerEpoch(1),
            marker: kind,
            coordinator_epoch: 5,
            timestamp: TimestampMs(3),
        });
        let view = BatchView::parse(&bytes).unwrap();
        assert!(view.header.is_control() && view.header.is_transactional());
        assert_eq!(marker(&view), Ok(Some((kind, 5))));
        let refused = validate_produced(&bytes, &limits(), &mut 0).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::INVALID_RECORD);
    }
    assert_eq!(marker(&BatchView::parse(&plain(1)).unwrap()), Ok(None));
}

#[test]
fn what_is_not_exactly_one_whole_batch_is_refused() {
    let good = plain(3);
    let code = |bytes: Vec<u8>| {
        validate_produced(&Bytes::from(bytes), &limits(), &mut 0).unwrap_err().code()
    };
    assert_eq!(code(Vec::new()), ErrorCode::INVALID_RECORD);
    assert_eq!(code([good.clone(), good.clone()].concat()), ErrorCode::INVALID_RECORD);
    assert_eq!(code(good[..good.len() - 1].to_vec()), ErrorCode::CORRUPT_MESSAGE);
    assert_eq!(code(good[..30].to_vec()), ErrorCode::CORRUPT_MESSAGE);
    let with = |at: usize, bytes: &[u8], seal: bool| {
        let mut changed = good.clone();
        put(&mut changed, at, bytes);
        if seal { sealed(changed).to_vec() } else { changed }
    };
    assert_eq!(code(with(good.len() - 1, b"x", false)), ErrorCode::CORRUPT_MESSAGE);
    assert_eq!(code(with(16, &[1], true)), ErrorCode::INVALID_RECORD);
    assert_eq!(code(with(57, &2_i32.to_be_bytes(), true)), ErrorCode::INVALID_RECORD);
    assert_eq!(code(with(57, &i32::MAX.to_be_bytes(), true)), ErrorCode::INVALID_RECORD);
    assert_eq!(code(with(53, &(-1_i32).to_be_bytes(), true)), ErrorCode::INVALID_RECORD);
    assert_eq!(code(with(35, &77_i64.to_be_bytes(), true)), ErrorCode::INVALID_RECORD);
    assert_eq!(code(with(22, &[7], true)), ErrorCode::INVALID_RECORD);
    let mut four = with(57, &4_i32.to_be_bytes(), false);
    put(&mut four, 23, &3_i32.to_be_bytes());
    assert_eq!(code(sealed(four).to_vec()), ErrorCode::INVALID_RECORD);
}

#[test]
fn the_topic_bounds_size_keys_timestamps_and_zstd() {
    let good = Bytes::from(plain(3));
    let code = |bytes: &Bytes, limits: ProduceLimits| {
        validate_produced(bytes, &limits, &mut 0).unwrap_err().code()
    };
    let small = ProduceLimits { max_message_bytes: good.len() - 1, ..limits() };
    assert_eq!(code(&good, small), ErrorCode::MESSAGE_TOO_LARGE);
    let early = ProduceLimits { max_timestamp: TimestampMs(1_001), ..limits() };
    let refused = validate_produced(&good, &early, &mut 0).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(
        refused.record_errors().iter().map(|error| error.batch_index).collect::<Vec<_>>(),
        [2]
    );
    let mut keyless = BatchBuilder::new();
    let record =
        NewRecord { timestamp: TimestampMs(5), key: None, value: Some(b"v"), headers: &[] };
    keyless.push(record);
    let compacted = ProduceLimits { requires_key: true, ..limits() };
    assert_eq!(code(&keyless.build(), compacted), ErrorCode::INVALID_RECORD);
    validate_produced(&good, &compacted, &mut 0).unwrap();
    let zstd = compressed(&good).pop().unwrap();
    let old = ProduceLimits { allows_zstd: false, ..limits() };
    assert_eq!(code(&zstd, old), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
}

#[test]
fn a_decompression_bomb_is_refused_without_being_unpacked() {
    let mut builder = BatchBuilder::new();
    let zeros = vec![0; 32 << 20];
    let record =
        NewRecord { timestamp: TimestampMs(5), key: None, value: Some(&zeros), headers: &[] };
    builder.push(record);
    let batch = builder.build();
    let tight = RecordLimits { max_decompressed_bytes: 4 << 20, ..RecordLimits::default() };
    for bomb in compressed(&batch).into_iter().skip(1) {
        let roomy = ProduceLimits { max_message_bytes: 64 << 20, records: tight, ..limits() };
        let refused = validate_produced(&bomb, &roomy, &mut 0).unwrap_err();
        assert_eq!(refused, ProduceError::Batch(BatchError::TooLarge));
        let view = BatchView::parse(&bomb).unwrap();
        let mut reader = records(&view, tight).unwrap();
        assert_eq!(reader.next_record(), Some(Err(BatchError::TooLarge)));
        assert!(reader.next_record().is_none());
    }
}

#[test]
fn no_cut_and_no_flipped_byte_makes_the_reader_panic() {
    for bytes in compressed(&plain(4)) {
        for at in 0..bytes.len() {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.to_vec();
                changed[at] = value;
                let changed = if at < 12 { Bytes::from(changed) } else { sealed(changed) };
                if validate_produced(&changed, &limits(), &mut 0).is_ok() {
                    let view = BatchView::parse(&changed).unwrap();
                    let mut reader = records(&view, RecordLimits::default()).unwrap();
                    let mut count = 0;
                    while let Some(record) = reader.next_record() {
                        record.unwrap();
                        count += 1;
                    }
                    assert_eq!(count, view.header.record_count);
                }
            }
            // Some frames end in a mark that nothing depends on.
            if at >= HEADER_BYTES && at < bytes.len() - 8 {
                validate_produced(&sealed(bytes[..at].to_vec()), &limits(), &mut 0).unwrap_err();
            }
        }
    }
}

#[test]
fn a_rewritten_batch_keeps_offsets_times_and_headers_in_every_compression() {
    for bytes in compressed(&plain(5)) {
        let view = BatchView::parse(&bytes).unwrap();
        let odd = |record: &Record<'_>| record.offset.0 % 2 == 1;
        for horizon in [None, Some(TimestampMs(777_777))] {
            let rewritten = rewrite(&view, RecordLimits::default(), horizon, odd).unwrap();
            let again = BatchView::parse(&rewritten).unwrap();
            again.verify_crc().unwrap();
            assert_eq!(again.header.delete_horizon(), horizon);
            assert_eq!(again.header.compression(), view.header.compression());
            assert_eq!(again.header.next_offset(), Offset(5));
            assert_eq!(again.header.last_sequence(), view.header.last_sequence());
            assert_eq!((again.header.record_count, again.header.max_timestamp.0), (2, 1_003));
            let mut reader = records(&again, RecordLimits::default()).unwrap();
            for offset in [1, 3] {
                let record = reader.next_record().unwrap().unwrap();
                assert_eq!((record.offset.0, record.timestamp.0), (offset, 1_000 + offset));
                assert_eq!(record.headers().count(), 3);
            }
            assert!(reader.next_record().is_none());
        }
        let empty = rewrite(&view, RecordLimits::default(), None, |_| false).unwrap();
        let view = BatchView::parse(&empty).unwrap();
        view.verify_crc().unwrap();
        assert_eq!((empty.len(), view.header.record_count), (HEADER_BYTES, 0));
        assert_eq!((view.header.next_offset(), view.header.last_sequence().0), (Offset(5), 2));
        assert!(records(&view, RecordLimits::default()).unwrap().next_record().is_none());
    }
}
