use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind};

use super::shapes::SHAPES;
use super::{Field, FrameError, Kind, check};

/// Writes a request in which every field has a value and every array two elements, as the table
/// says it should look.
struct Fill {
    buffer: BytesMut,
    version: i16,
    flexible: bool,
    next: u8,
    /// Where lengths stand.
    lengths: Vec<usize>,
}

impl Fill {
    fn fields(&mut self, fields: &'static [Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.is_in(version)) {
            self.value(&field.kind);
        }
        if self.flexible {
            let known: Vec<_> = fields
                .iter()
                .filter(|field| field.tag.is_some() && field.is_in(self.version))
                .collect();
            self.buffer.put_u8(u8::try_from(known.len()).unwrap());
            for field in known {
                let start = self.buffer.len();
                let first_length = self.lengths.len();
                self.value(&field.kind);
                let content = self.buffer.split_off(start);
                // Tag and size go in front of what was written.
                self.lengths[first_length..].iter_mut().for_each(|at| *at += 2);
                self.buffer.put_u8(u8::try_from(field.tag.unwrap()).unwrap());
                self.buffer.put_u8(u8::try_from(content.len()).unwrap());
                self.buffer.put_slice(&content);
            }
        }
    }

    fn value(&mut self, kind: &'static Kind) {
        self.next = self.next % 20 + 1;
        match kind {
            // One byte is a boolean or an enumeration; 1 is a value of both.
            Kind::Fixed(1) => self.buffer.put_u8(1),
            Kind::Fixed(size) => (0..*size).for_each(|_| self.buffer.put_u8(self.next)),
            Kind::Text | Kind::Topic => {
                self.length(3, 2);
                self.buffer.put_slice(b"abc");
            }
            Kind::Blob => {
                self.length(4, 4);
                self.buffer.put_slice(b"blob");
            }
            Kind::Array(element) => {
                self.length(2, 4);
                self.value(element);
                self.value(element);
            }
            Kind::Struct(fields) => self.fields(fields),
            Kind::Optional(fields) => {
                self.buffer.put_u8(1);
                self.fields(fields);
            }
        }
    }

    fn length(&mut self, length: u8, width: usize) {
        self.lengths.push(self.buffer.len());
        if self.flexible {
            self.buffer.put_u8(length + 1);
        } else {
            self.buffer.put_bytes(0, width - 1);
            self.buffer.put_u8(length);
        }
    }
}

/// Every request of the table in every version that the crate reads.
fn filled() -> Vec<(ApiKey, i16, Bytes, Vec<usize>)> {
    let mut requests = Vec::new();
    for shape in SHAPES {
        let key = ApiKey::try_from(shape.api_key).unwrap();
        for version in 0..=20 {
            let flexible = version >= shape.flexible;
            let mut fill =
                Fill { buffer: BytesMut::new(), version, flexible, next: 0, lengths: Vec::new() };
            fill.fields(shape.fields);
            let bytes = fill.buffer.freeze();
            if RequestKind::decode(key, &mut bytes.clone(), version).is_ok() {
                requests.push((key, version, bytes, fill.lengths));
            }
        }
    }
    requests
}

#[test]
fn the_table_and_the_crate_agree_on_every_field_of_every_version() {
    let requests = filled();
    let expected: i16 = SHAPES
        .iter()
        .map(|shape| {
            // What the crate lists and cannot decode, see its `VERSIONS` of the requests.
            let unreadable = i16::from(matches!(shape.api_key, 8 | 9 | 22));
            let range = ApiKey::try_from(shape.api_key).unwrap().valid_versions();
            range.max - range.min + 1 - unreadable
        })
        .sum();
    assert_eq!(requests.len(), usize::try_from(expected).unwrap());
    for (key, version, bytes, _) in requests {
        let mut rest = bytes.clone();
        let request = RequestKind::decode(key, &mut rest, version).unwrap();
        assert!(rest.is_empty(), "{key:?} v{version} leaves bytes");
        let mut again = BytesMut::new();
        request.encode(&mut again, version).unwrap();
        assert_eq!(again, bytes, "{key:?} v{version}");
        assert_eq!(check(number(key), version, &bytes), Ok(()), "{key:?} v{version}");
    }
}

#[test]
fn a_length_beyond_the_bytes_is_refused_wherever_it_stands() {
    for (key, version, bytes, lengths) in filled() {
        let flexible =
            SHAPES.iter().any(|shape| shape.api_key == number(key) && version >= shape.flexible);
        for at in lengths {
            let mut hostile = bytes[..at].to_vec();
            let huge: &[u8] =
                if flexible { &[0xff, 0xff, 0xff, 0xff, 0x07] } else { &[0x7f, 0xff, 0xff, 0xff] };
            hostile.extend_from_slice(huge);
            hostile.extend_from_slice(&[0; 16]);
            assert!(
                check(number(key), version, &hostile).is_err(),
                "{key:?} v{version} at {at}: {bytes:?}"
            );
        }
    }
}

#[test]
fn what_passes_the_check_never_makes_the_crate_reserve_too_much() {
    for (key, version, bytes, _) in filled() {
        for at in 0..bytes.len() {
            check(number(key), version, &bytes[..at]).unwrap_err();
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.to_vec();
                changed[at] = value;
                if check(number(key), version, &changed).is_ok() {
                    drop(RequestKind::decode(key, &mut Bytes::from(changed), version));
                }
            }
        }
    }
}

#[test]
fn too_many_elements_and_tagged_fields_are_refused_though_they_are_there() {
    let mut topics = BytesMut::new();
    topics.put_i32(200_000);
    topics.put_bytes(0, 400_000);
    assert_eq!(check(3, 0, &topics), Err(FrameError::TooMany("topics")));
    let mut tags = vec![65];
    tags.extend((0..65).flat_map(|tag| [tag, 0]));
    assert_eq!(super::tagged_fields_len(&tags), Err(FrameError::TooMany("header")));
    assert_eq!(super::tagged_fields_len(&[1, 9, 2, 0, 0, 77]), Ok(5));
    assert_eq!(check(18, 0, b"x"), Ok(()));
    assert_eq!(check(4, 0, b""), Err(FrameError::UnknownApi));
}

#[expect(clippy::as_conversions, reason = "the enum's values are the keys, as i16")]
fn number(key: ApiKey) -> i16 {
    key as i16
}

/// `FindCoordinator` 4, for one key, and `OffsetFetch` 7, for one topic.
#[test]
fn text_is_no_longer_than_what_it_names_can_be() {
    let compact = |text: &[u8]| {
        let length = text.len() + 1;
        let low = u8::try_from(length & 0x7f).unwrap() | 0x80;
        let middle = u8::try_from(length >> 7 & 0x7f).unwrap() | 0x80;
        [&[low, middle, u8::try_from(length >> 14).unwrap()], text].concat()
    };
    let find = |length| [&[0, 2][..], &compact(&vec![b'k'; length]), &[0]].concat();
    assert_eq!(check(10, 4, &find(0x7fff)), Ok(()));
    assert_eq!(check(10, 4, &find(0x8000)), Err(FrameError::TooLong("coordinator_keys")));
    let fetch = |length| {
        let topic = compact(&vec![b't'; length]);
        [&[2, b'g', 2][..], &topic, &[2, 0, 0, 0, 0, 0, 0, 0]].concat()
    };
    assert_eq!(check(9, 7, &fetch(249)), Ok(()));
    assert_eq!(check(9, 7, &fetch(250)), Err(FrameError::TooLong("name")));
}
