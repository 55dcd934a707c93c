//! Usernames, e-mail addresses, passwords.

use email_address::{EmailAddress, Options};

use super::Invalid;

/// Characters.
pub(crate) const USERNAME_MAX_CHARS: usize = 64;
/// Bytes, the longest path that SMTP can carry (RFC 5321) less its angle brackets.
pub(crate) const EMAIL_MAX_BYTES: usize = 254;
/// Bytes; a bound on the work of one hash.
pub(crate) const PASSWORD_MAX_BYTES: usize = 1024;
/// Characters shown of what a client says it is.
pub(crate) const USER_AGENT_MAX_CHARS: usize = 200;

/// Accepts a username: letters and digits of any script, and `. _ - ' +` and single spaces
/// between them. An `@` is refused, so a username can never be taken for an e-mail address at
/// log-in.
pub(crate) fn username(raw: &str) -> Result<&str, Invalid> {
    const FIELD: &str = "username";
    if raw.is_empty() {
        return Err(Invalid::new(FIELD, "empty", "a username is needed"));
    }
    if raw.chars().count() > USERNAME_MAX_CHARS {
        return Err(Invalid::new(
            FIELD,
            "too_long",
            format!("a username has at most {USERNAME_MAX_CHARS} characters"),
        ));
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '\'' | '+' | ' ');
    if !raw.chars().all(allowed)
        || raw.starts_with(' ')
        || raw.ends_with(' ')
        || raw.contains("  ")
        || !raw.chars().any(char::is_alphanumeric)
    {
        return Err(Invalid::new(
            FIELD,
            "invalid",
            "a username consists of letters, digits, . _ - ' + and single spaces between them",
        ));
    }
    Ok(raw)
}

/// Accepts the bare e-mail address of a mailbox: no display name, no quoted local part, no
/// address literal, and nothing that could end a header line.
pub(crate) fn email(raw: &str) -> Result<&str, Invalid> {
    const FIELD: &str = "email";
    if raw.is_empty() {
        return Err(Invalid::new(FIELD, "empty", "an e-mail address is needed"));
    }
    if raw.len() > EMAIL_MAX_BYTES {
        return Err(Invalid::new(
            FIELD,
            "too_long",
            format!("an e-mail address has at most {EMAIL_MAX_BYTES} bytes"),
        ));
    }
    let hostile = |c: char| c.is_control() || c.is_whitespace() || "\"<>(),;:\\[]".contains(c);
    let options = Options::default().without_display_text().without_domain_literal();
    if raw.contains(hostile) || EmailAddress::parse_with_options(raw, options).is_err() {
        return Err(Invalid::new(FIELD, "invalid", "this is not an e-mail address"));
    }
    Ok(raw)
}

/// Accepts a new password of at least `min_chars` characters. Everything else is up to the person.
pub(crate) fn password(field: &'static str, raw: &str, min_chars: usize) -> Result<(), Invalid> {
    let min_chars = min_chars.max(1);
    if raw.chars().count() < min_chars {
        let message = match min_chars {
            1 => "a password is needed".to_owned(),
            _ => format!("a password has at least {min_chars} characters"),
        };
        return Err(Invalid::new(field, "too_short", message));
    }
    if raw.len() > PASSWORD_MAX_BYTES {
        return Err(Invalid::new(
            field,
            "too_long",
            format!("a password has at most {PASSWORD_MAX_BYTES} bytes"),
        ));
    }
    Ok(())
}

/// What two spellings of one username or address have in common: the key of uniqueness.
pub(crate) fn fold(name: &str) -> String {
    name.to_lowercase()
}

/// What is kept of a `User-Agent` header: printable, bounded.
pub(crate) fn user_agent(raw: &str) -> String {
    raw.chars().filter(|c| !c.is_control()).take(USER_AGENT_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_of_people_are_accepted() {
        for name in ["test", "Anna Müller", "o'neil", "x", "用户", "a.b_c-d+e", "42"] {
            assert_eq!(username(name), Ok(name));
        }
        let longest = "ü".repeat(USERNAME_MAX_CHARS);
        assert_eq!(username(&longest), Ok(longest.as_str()));
    }

    #[test]
    fn usernames_that_could_mislead_are_refused() {
        let names = [
            "",
            " ",
            " a",
            "a ",
            "a  b",
            "a\nb",
            "a\0b",
            "a@b",
            "<b>",
            "\u{202e}txt",
            "a\u{200b}",
            "...",
        ];
        for name in names {
            assert_eq!(username(name).unwrap_err().field, "username", "{name:?}");
        }
        let long = "a".repeat(USERNAME_MAX_CHARS + 1);
        assert_eq!(username(&long).unwrap_err().code, "too_long");
    }

    #[test]
    fn mailboxes_are_accepted() {
        for address in
            ["test@example.com", "a.b+c@sub.example.org", "root@localhost", "ö@exämple.de"]
        {
            assert_eq!(email(address), Ok(address));
        }
    }

    #[test]
    fn what_is_no_mailbox_is_refused() {
        let addresses = [
            "",
            "test",
            "@example.com",
            "a@",
            "a@@b.c",
            "a b@c.d",
            "Anna <a@b.c>",
            "a@[127.0.0.1]",
            "\"a b\"@c.d",
            "a@b.c\r\nBcc: x@y.z",
            "a@b.c\n",
            "\na@b.c",
            "a@b..c",
            "a@b.c,d@e.f",
        ];
        for address in addresses {
            assert_eq!(email(address).unwrap_err().field, "email", "{address:?}");
        }
        let long = format!("{}@example.com", "a".repeat(EMAIL_MAX_BYTES));
        assert_eq!(email(&long).unwrap_err().code, "too_long");
    }

    #[test]
    fn passwords_have_a_least_and_a_greatest_length() {
        assert_eq!(password("password", "pass", 1), Ok(()));
        assert_eq!(password("password", "", 0).unwrap_err().code, "too_short");
        assert_eq!(password("newPassword", "ninechars", 10).unwrap_err().field, "newPassword");
        assert_eq!(password("password", "tenletters", 10), Ok(()));
        assert_eq!(password("password", "üüüüüüüüüü", 10), Ok(()));
        let long = "a".repeat(PASSWORD_MAX_BYTES + 1);
        assert_eq!(password("password", &long, 1).unwrap_err().code, "too_long");
    }

    #[test]
    fn spellings_fold_together() {
        assert_eq!(fold("Test@Example.COM"), fold("test@example.com"));
        assert_eq!(fold("MÜLLER"), fold("müller"));
    }

    #[test]
    fn a_user_agent_is_cut_and_cleaned() {
        assert_eq!(user_agent("curl/8\u{1b}[31m\r\n"), "curl/8[31m");
        assert_eq!(user_agent(&"x".repeat(5000)).len(), USER_AGENT_MAX_CHARS);
    }
}
