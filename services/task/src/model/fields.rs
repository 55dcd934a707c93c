//! The limits of a task's texts, and the one form in which they are kept.

use super::Invalid;

/// Characters of a title, after trimming.
pub const TITLE_MAX_CHARS: usize = 200;
/// Characters of a description.
pub const DESCRIPTION_MAX_CHARS: usize = 10_000;
/// Characters of a category, after trimming.
pub const CATEGORY_MAX_CHARS: usize = 100;
/// Tags of one task.
pub const TAGS_MAX_COUNT: usize = 20;
/// Characters of one tag, after trimming.
pub const TAG_MAX_CHARS: usize = 50;

/// A title: one line, trimmed, not empty. It stands in subjects of mails, so no control
/// characters.
pub(crate) fn title(text: &str) -> Result<String, Invalid> {
    one_line("title", text, TITLE_MAX_CHARS)
}

/// A description: any text, line breaks included; an empty one is none.
pub(crate) fn description(text: &str) -> Result<Option<String>, Invalid> {
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(Invalid::new("description", "must not contain control characters"));
    }
    at_most("description", text, DESCRIPTION_MAX_CHARS)?;
    Ok(Some(text.to_owned()).filter(|text| !text.trim().is_empty()))
}

pub(crate) fn category(text: &str) -> Result<String, Invalid> {
    one_line("category", text, CATEGORY_MAX_CHARS)
}

/// Tags in the order given, each trimmed with single spaces inside; of those that differ only in
/// case the first stays.
pub(crate) fn tags(given: &[String]) -> Result<Vec<String>, Invalid> {
    let mut kept: Vec<String> = Vec::new();
    for text in given {
        let words = text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let tag = one_line("tags", &words, TAG_MAX_CHARS)?;
        if !kept.iter().any(|other| folded(other) == folded(&tag)) {
            kept.push(tag);
        }
        if kept.len() > TAGS_MAX_COUNT {
            let message = format!("must not be more than {TAGS_MAX_COUNT}");
            return Err(Invalid::new("tags", message));
        }
    }
    Ok(kept)
}

/// The form in which texts are compared without regard to case.
pub(crate) fn folded(text: &str) -> String {
    text.to_lowercase()
}

fn one_line(field: &'static str, text: &str, max_chars: usize) -> Result<String, Invalid> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Invalid::new(field, "must not be empty"));
    }
    if text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        let message = "must not contain line breaks or control characters";
        return Err(Invalid::new(field, message));
    }
    at_most(field, text, max_chars)?;
    Ok(text.to_owned())
}

fn at_most(field: &'static str, text: &str, max_chars: usize) -> Result<(), Invalid> {
    if text.chars().nth(max_chars).is_some() {
        let message = format!("must not be longer than {max_chars} characters");
        return Err(Invalid::new(field, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_trimmed_and_has_1_to_200_characters() {
        assert_eq!(title("  Buy milk ").unwrap(), "Buy milk");
        assert_eq!(title(&"ö".repeat(200)).unwrap().chars().count(), 200);
        for bad in ["", "  \n ", &"x".repeat(201), "two\nlines", "nul\0", "para\u{2029}graph"] {
            assert_eq!(title(bad).unwrap_err().field, "title", "{bad:?}");
        }
    }

    #[test]
    fn a_description_keeps_its_lines_and_an_empty_one_is_none() {
        assert_eq!(description("a\r\n\tb").unwrap().as_deref(), Some("a\r\n\tb"));
        assert_eq!(description(" \n").unwrap(), None);
        assert!(description(&"x".repeat(DESCRIPTION_MAX_CHARS + 1)).is_err());
        assert!(description("bell\u{7}").is_err());
    }

    #[test]
    fn tags_are_trimmed_and_named_once_whatever_their_case() {
        let given = [" Home ", "home", "to  buy", "HOME"].map(str::to_owned);
        assert_eq!(tags(&given).unwrap(), ["Home", "to buy"]);
        assert!(tags(&[" ".to_owned()]).is_err());
        assert!(tags(&["a\tb".to_owned()]).is_err());
        let many: Vec<String> = (0..=TAGS_MAX_COUNT).map(|n| format!("t{n}")).collect();
        assert_eq!(tags(&many).unwrap_err().field, "tags");
        let twenty = many.get(..TAGS_MAX_COUNT).unwrap();
        assert_eq!(tags(twenty).unwrap().len(), TAGS_MAX_COUNT);
    }
}
