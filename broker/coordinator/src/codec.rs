//! The primitives of Kafka's record schemas.

use bytes::Bytes;

use crate::record::RecordError;

/// Appends fields to a key or value.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn with_version(version: i16) -> Self {
        let mut writer = Self::default();
        writer.i16(version);
        writer
    }

    pub(crate) fn finish(self) -> Bytes {
        Bytes::from(self.0)
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// What came in a request as a string is short enough; what is not is cut.
    pub(crate) fn string(&mut self, value: &str) {
        let length = value.floor_char_boundary(usize::from(i16::MAX.unsigned_abs()));
        self.i16(i16::try_from(length).unwrap_or(i16::MAX));
        self.0.extend(value.as_bytes().iter().take(length));
    }

    pub(crate) fn nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None => self.i16(-1),
        }
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.0.extend_from_slice(value);
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.i32(i32::try_from(count).unwrap_or(i32::MAX));
    }

    pub(crate) fn compact_count(&mut self, count: usize) {
        self.unsigned_varint(u32::try_from(count).unwrap_or(u32::MAX - 1) + 1);
    }

    pub(crate) fn compact_string(&mut self, value: &str) {
        self.compact_count(value.len());
        self.0.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn unsigned_varint(&mut self, mut value: u32) {
        loop {
            let low = u8::try_from(value & 0x7f).unwrap_or(0);
            value >>= 7;
            if value == 0 {
                self.0.push(low);
                return;
            }
            self.0.push(low | 0x80);
        }
    }
}

/// Takes fields off a key or value; every length is checked against what is left.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, RecordError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(crate) fn string(&mut self) -> Result<String, RecordError> {
        self.nullable_string()?.ok_or(RecordError::Truncated)
    }

    pub(crate) fn nullable_string(&mut self) -> Result<Option<String>, RecordError> {
        let length = self.i16()?;
        if length < 0 {
            return Ok(None);
        }
        self.text(usize::from(length.unsigned_abs())).map(Some)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, RecordError> {
        let length = self.count()?;
        self.take(length).map(Bytes::copy_from_slice)
    }

    pub(crate) fn count(&mut self) -> Result<usize, RecordError> {
        usize::try_from(self.i32()?).map_err(|_error| RecordError::Truncated)
    }

    /// The count of a compact array or string; `None` is null.
    pub(crate) fn compact_count(&mut self) -> Result<Option<usize>, RecordError> {
        match self.unsigned_varint()? {
            0 => Ok(None),
            count => usize::try_from(count - 1).map(Some).map_err(|_error| RecordError::Truncated),
        }
    }

    pub(crate) fn compact_string(&mut self) -> Result<String, RecordError> {
        let length = self.compact_count()?.ok_or(RecordError::Truncated)?;
        self.text(length)
    }

    pub(crate) fn unsigned_varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Truncated)
    }

    /// The tagged fields at the end of a flexible structure, each given to `field` by its tag.
    pub(crate) fn tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader<'_>) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let length = usize::try_from(self.unsigned_varint()?)
                .map_err(|_error| RecordError::Truncated)?;
            field(tag, &mut Reader(self.take(length)?))?;
        }
        Ok(())
    }

    fn text(&mut self, length: usize) -> Result<String, RecordError> {
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_error| RecordError::NotUtf8)
    }
}
