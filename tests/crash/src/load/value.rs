//! What a record holds: its id and a filler that the id decides, so that a changed byte is seen.

use crate::history::Id;

/// Sizes from 16 bytes to about 2 KiB.
const FILLER_STEPS: u64 = 101;
const FILLER_STEP_BYTES: u64 = 20;

pub(crate) fn value_of(id: Id) -> Vec<u8> {
    let mut value = format!("{id:016x}").into_bytes();
    let filler = usize::try_from(id % FILLER_STEPS * FILLER_STEP_BYTES).unwrap();
    let letter = b'a' + u8::try_from(id % 26).unwrap();
    value.resize(value.len() + filler, letter);
    value
}

/// `None` for bytes that nobody sent.
pub(crate) fn id_of(value: &[u8]) -> Option<Id> {
    let text = std::str::from_utf8(value.get(..16)?).ok()?;
    let id = Id::from_str_radix(text, 16).ok()?;
    (value_of(id) == value).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::{id_of, value_of};

    #[test]
    fn a_changed_byte_is_seen() {
        let value = value_of(77);
        assert_eq!(id_of(&value), Some(77));
        let mut torn = value.clone();
        *torn.last_mut().unwrap() ^= 1;
        assert_eq!(id_of(&torn), None);
        assert_eq!(id_of(&value[..value.len() - 1]), None);
        assert_eq!(id_of(b""), None);
    }
}
