//! A due date: a day of the calendar or an instant, kept as it was given.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// When a task is due: `2026-12-24` (a day) or an RFC 3339 instant.
///
/// The text is returned as it was given. For order and filters a day counts as its last
/// millisecond in UTC, so that a task that is due today is not late before the day is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Due {
    text: String,
    start: Timestamp,
    end: Timestamp,
}

const DAY_TO_ITS_LAST_MS: SignedDuration = SignedDuration::from_millis(24 * 60 * 60 * 1000 - 1);

/// Why a text is no due date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DueError {
    #[error("is neither a date like 2026-12-24 nor an instant like 2026-12-24T18:00:00Z")]
    Shape,
    #[error("is a day or a time that no calendar has")]
    NotInCalendar,
}

impl Due {
    /// Reads a day or an instant; the year has four digits.
    pub fn parse(text: &str) -> Result<Due, DueError> {
        let start = parse_bound(text)?;
        let end = match shape(text) {
            Some(Shape::Day) => start.checked_add(DAY_TO_ITS_LAST_MS),
            Some(Shape::Instant) | None => Ok(start),
        };
        let end = end.ok().ok_or(DueError::NotInCalendar)?;
        Ok(Due { text: text.to_owned(), start, end })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The instant, or the day's first moment in UTC: what events show.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// The instant that order and filters go by.
    pub fn end(&self) -> Timestamp {
        self.end
    }
}

impl TryFrom<String> for Due {
    type Error = DueError;

    fn try_from(text: String) -> Result<Due, DueError> {
        Due::parse(&text)
    }
}

impl From<Due> for String {
    fn from(due: Due) -> String {
        due.text
    }
}

/// The bound of a `dueBefore` filter: a day means its first moment in UTC, so that
/// `dueBefore=2026-12-24` leaves out what is due on the 24th.
pub fn parse_bound(text: &str) -> Result<Timestamp, DueError> {
    match shape(text).ok_or(DueError::Shape)? {
        Shape::Day => day(text)?
            .to_zoned(TimeZone::UTC)
            .ok()
            .map(|start| start.timestamp())
            .ok_or(DueError::NotInCalendar),
        Shape::Instant => instant(text),
    }
}

fn day(text: &str) -> Result<civil::Date, DueError> {
    text.parse().ok().ok_or(DueError::NotInCalendar)
}

fn instant(text: &str) -> Result<Timestamp, DueError> {
    text.parse().ok().ok_or(DueError::NotInCalendar)
}

enum Shape {
    Day,
    Instant,
}

/// jiff reads more forms than RFC 3339 has (weeks, brackets, missing parts); here only the two
/// that other programs can read back.
fn shape(text: &str) -> Option<Shape> {
    let (day, rest) = text.split_at_checked(10)?;
    if !fits(day, "dddd-dd-dd") {
        return None;
    }
    if rest.is_empty() {
        return Some(Shape::Day);
    }
    let (time, rest) = rest.split_at_checked(9)?;
    if !fits(time, "Tdd:dd:dd") && !fits(time, "tdd:dd:dd") {
        return None;
    }
    let offset = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let offset = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            let digits = fraction.len() - offset.len();
            if !(1..=9).contains(&digits) {
                return None;
            }
            offset
        }
    };
    let zone = matches!(offset, "Z" | "z") || fits(offset, "+dd:dd") || fits(offset, "-dd:dd");
    zone.then_some(Shape::Instant)
}

/// Whether the text has the pattern's form, in which `d` stands for a digit.
fn fits(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(byte, wanted)| match wanted {
            b'd' => byte.is_ascii_digit(),
            _ => byte == wanted,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_and_an_instant_are_returned_as_given() {
        for text in [
            "2026-12-24",
            "2024-02-29",
            "2026-12-24T18:00:00Z",
            "2026-12-24t18:00:00z",
            "2026-12-24T18:00:00.5+01:00",
            "2026-12-24T18:00:00.123456789-00:00",
        ] {
            assert_eq!(Due::parse(text).map(String::from), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_day_in_no_calendar_is_refused() {
        for text in [
            "2026-02-30",
            "2025-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "2026-02-30T10:00:00Z",
            "2026-02-03T25:00:00Z",
            "2026-02-03T10:61:00Z",
        ] {
            assert_eq!(Due::parse(text), Err(DueError::NotInCalendar), "{text}");
        }
    }

    #[test]
    fn what_is_neither_day_nor_instant_is_refused() {
        for text in [
            "",
            "tomorrow",
            "20261224",
            "2026-12-24T18:00",
            "2026-12-24T18:00:00",
            "2026-12-24 18:00:00Z",
            "2026-12-24T18:00:00.Z",
            "2026-12-24T18:00:00Z[UTC]",
            "2026-12-24T18:00:00+0100",
            "2026-W52-4",
            "ｅ2026-12-24",
            "+02026-12-24",
            "2026-12-2４",
        ] {
            assert_eq!(Due::parse(text), Err(DueError::Shape), "{text}");
        }
    }

    #[test]
    fn a_day_counts_as_its_end_and_bounds_as_its_start() {
        let day = Due::parse("2026-12-24").unwrap().end();
        assert!(Due::parse("2026-12-24T23:59:59Z").unwrap().end() < day);
        assert!(day < Due::parse("2026-12-25T00:00:00Z").unwrap().end());
        assert!(Due::parse("2026-12-25T00:30:00+01:00").unwrap().end() < day);
        let bound = parse_bound("2026-12-24").unwrap();
        assert!(Due::parse("2026-12-23").unwrap().end() < bound);
        assert!(bound <= Due::parse("2026-12-24T00:00:00Z").unwrap().end());
    }
}
