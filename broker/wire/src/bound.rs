//! Walks a request before it is decoded.
//!
//! `kafka-protocol` reserves memory for whatever length an array claims, and ends the process
//! when there is none. So every length is held against the bytes that are really there first.
//! What passes costs a decoder no more than a small multiple of the frame.

mod shapes;
#[cfg(test)]
mod tests;

/// Array elements in one request, of all arrays together.
const MAX_ELEMENTS: usize = 100_000;
/// Tagged fields in one struct. Kafka's own requests have four at most.
const MAX_TAGGED_FIELDS: u32 = 64;

/// The longest string of any protocol version, as in Apache Kafka also where its length is a varint.
const MAX_TEXT_BYTES: usize = 0x7fff;
/// The longest name that a topic can have, where a request may name one with very many partitions.
const MAX_TOPIC_BYTES: usize = 249;

/// Why a request may not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No shape is known for the API.
    #[error("no request of this API is known")]
    UnknownApi,
    /// The bytes end inside a field.
    #[error("the request ends inside `{0}`")]
    Truncated(&'static str),
    /// A length is negative, or more than the bytes that follow.
    #[error("the length of `{0}` is impossible")]
    BadLength(&'static str),
    /// Longer than what it names can be.
    #[error("`{0}` is too long")]
    TooLong(&'static str),
    /// More elements or tagged fields than any client sends.
    #[error("`{0}` has too many elements")]
    TooMany(&'static str),
}

/// Walks the body of a request and accepts it if every length in it is true. Bytes after the
/// request are let be: librdkafka 2.16 sends three behind `Metadata` 13 for all topics, and
/// Apache Kafka does not look either.
pub fn check(api_key: i16, version: i16, body: &[u8]) -> Result<(), FrameError> {
    let shape = shapes::SHAPES
        .iter()
        .find(|shape| shape.api_key == api_key)
        .ok_or(FrameError::UnknownApi)?;
    let mut walk = Walk { rest: body, version, flexible: version >= shape.flexible, elements: 0 };
    walk.fields(shape.fields)
}

/// Walks the tagged fields at the start of `bytes`, as they end a flexible request header; the
/// bytes they take.
pub fn tagged_fields_len(bytes: &[u8]) -> Result<usize, FrameError> {
    let mut walk = Walk { rest: bytes, version: 0, flexible: true, elements: 0 };
    walk.tagged_fields("header", &[])?;
    Ok(bytes.len() - walk.rest.len())
}

/// The request of one API in all its versions.
struct Shape {
    api_key: i16,
    /// The first version with compact lengths and tagged fields.
    flexible: i16,
    fields: &'static [Field],
}

struct Field {
    name: &'static str,
    /// The number of a tagged field.
    tag: Option<u32>,
    since: i16,
    until: i16,
    kind: Kind,
}

enum Kind {
    Fixed(usize),
    Text,
    /// A topic's name.
    Topic,
    Blob,
    Array(&'static Kind),
    Struct(&'static [Field]),
    /// A struct behind a byte: 1 if it is there, -1 if not.
    Optional(&'static [Field]),
}

const fn field(name: &'static str, since: i16, until: i16, kind: Kind) -> Field {
    Field { name, tag: None, since, until, kind }
}

const fn tagged(name: &'static str, tag: u32, since: i16, until: i16, kind: Kind) -> Field {
    Field { name, tag: Some(tag), since, until, kind }
}

impl Field {
    fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl<'a> Walk<'a> {
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), FrameError> {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                self.value(field.name, &field.kind)?;
            }
        }
        if self.flexible { self.tagged_fields("tagged fields", fields) } else { Ok(()) }
    }

    fn value(&mut self, name: &'static str, kind: &'static Kind) -> Result<(), FrameError> {
        match kind {
            Kind::Fixed(size) => self.take(name, *size).map(drop),
            Kind::Text => self.text(name, MAX_TEXT_BYTES),
            Kind::Topic => self.text(name, MAX_TOPIC_BYTES),
            Kind::Blob => {
                let length = self.length(name)?.unwrap_or(0);
                self.take(name, length).map(drop)
            }
            Kind::Array(element) => self.array(name, element),
            Kind::Struct(fields) => self.fields(fields),
            Kind::Optional(fields) => match self.take(name, 1)? {
                [1] => self.fields(fields),
                [0xff] => Ok(()),
                _ => Err(FrameError::BadLength(name)),
            },
        }
    }

    fn text(&mut self, name: &'static str, longest: usize) -> Result<(), FrameError> {
        let length = if self.flexible { self.compact(name)? } else { self.short(name)? };
        let length = length.unwrap_or(0);
        if length > longest {
            return Err(FrameError::TooLong(name));
        }
        self.take(name, length).map(drop)
    }

    fn array(&mut self, name: &'static str, element: &'static Kind) -> Result<(), FrameError> {
        let Some(count) = self.length(name)? else { return Ok(()) };
        // Every element takes a byte at least.
        if count > self.rest.len() {
            return Err(FrameError::BadLength(name));
        }
        self.elements = self.elements.saturating_add(count);
        if self.elements > MAX_ELEMENTS {
            return Err(FrameError::TooMany(name));
        }
        for _ in 0..count {
            self.value(name, element)?;
        }
        Ok(())
    }

    fn tagged_fields(
        &mut self,
        name: &'static str,
        known: &'static [Field],
    ) -> Result<(), FrameError> {
        let count = self.unsigned_varint(name)?;
        if count > MAX_TAGGED_FIELDS {
            return Err(FrameError::TooMany(name));
        }
        for _ in 0..count {
            let tag = self.unsigned_varint(name)?;
            let size = self.unsigned_varint(name)?;
            let size = usize::try_from(size).map_err(|_error| FrameError::BadLength(name))?;
            let content = self.take(name, size)?;
            let field =
                known.iter().find(|field| field.tag == Some(tag) && field.is_in(self.version));
            if let Some(field) = field {
                let rest = std::mem::replace(&mut self.rest, content);
                self.value(field.name, &field.kind)?;
                if !self.rest.is_empty() {
                    return Err(FrameError::BadLength(field.name));
                }
                self.rest = rest;
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &'static str, count: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(FrameError::Truncated(name))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The length of an array or of bytes; `None` is null.
    fn length(&mut self, name: &'static str) -> Result<Option<usize>, FrameError> {
        if self.flexible {
            return self.compact(name);
        }
        let bytes = self.take(name, 4)?.first_chunk().ok_or(FrameError::Truncated(name))?;
        nullable(name, i64::from(i32::from_be_bytes(*bytes)))
    }

    fn short(&mut self, name: &'static str) -> Result<Option<usize>, FrameError> {
        let bytes = self.take(name, 2)?.first_chunk().ok_or(FrameError::Truncated(name))?;
        nullable(name, i64::from(i16::from_be_bytes(*bytes)))
    }

    fn compact(&mut self, name: &'static str) -> Result<Option<usize>, FrameError> {
        let length = i64::from(self.unsigned_varint(name)?) - 1;
        nullable(name, length)
    }

    fn unsigned_varint(&mut self, name: &'static str) -> Result<u32, FrameError> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = *self.take(name, 1)?.first().ok_or(FrameError::Truncated(name))?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_error| FrameError::BadLength(name));
            }
        }
        Err(FrameError::BadLength(name))
    }
}

fn nullable(name: &'static str, length: i64) -> Result<Option<usize>, FrameError> {
    if length == -1 {
        return Ok(None);
    }
    usize::try_from(length).map(Some).map_err(|_error| FrameError::BadLength(name))
}
