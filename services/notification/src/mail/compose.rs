//! Renders a letter and makes a message of it. Everything that came from people passes lettre's typed headers.

use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};
use minijinja::{AutoEscape, Environment, Value, context};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::model::happening::Kind;
use crate::model::letter::Letter;
use crate::model::mail::Mail;

/// Composes all mails of this service.
#[derive(Debug)]
pub(crate) struct Composer {
    templates: Environment<'static>,
    from: Mailbox,
    public_url: String,
}

/// A message and where it goes.
#[derive(Debug)]
pub(crate) struct Composed {
    pub(crate) message: Message,
    pub(crate) file_name: String,
}

/// The two renderings of a letter.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    pub(crate) html: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ComposeError {
    #[error("the address cannot be written to: {0}")]
    Address(#[from] lettre::address::AddressError),
    #[error("the message cannot be made: {0}")]
    Message(#[from] lettre::error::Error),
    #[error("the template fails: {0}")]
    Template(#[from] minijinja::Error),
}

const TEMPLATES: [(&str, &str); 6] = [
    ("welcome.txt", include_str!("../../templates/welcome.txt")),
    ("welcome.html", include_str!("../../templates/welcome.html")),
    ("task.txt", include_str!("../../templates/task.txt")),
    ("task.html", include_str!("../../templates/task.html")),
    ("reset.txt", include_str!("../../templates/reset.txt")),
    ("reset.html", include_str!("../../templates/reset.html")),
];

/// What stands for itself in the value of a query.
const QUERY_VALUE: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Composer {
    /// `public_url` begins all links.
    pub(crate) fn new(from: Mailbox, public_url: &str) -> Result<Self, minijinja::Error> {
        let mut templates = Environment::new();
        templates.set_auto_escape_callback(|name| match name.rsplit_once('.') {
            Some((_, "html")) => AutoEscape::Html,
            _ => AutoEscape::None,
        });
        for (name, source) in TEMPLATES {
            templates.add_template(name, source)?;
        }
        Ok(Self { templates, from, public_url: public_url.trim_end_matches('/').to_owned() })
    }

    pub(crate) fn render(&self, letter: &Letter) -> Result<Rendered, minijinja::Error> {
        let (template, values) = self.values(letter);
        let render = |ending: &str| {
            self.templates.get_template(&format!("{template}.{ending}"))?.render(&values)
        };
        Ok(Rendered { text: render("txt")?, html: render("html")? })
    }

    /// The whole message; its id is the same in every attempt, so that receivers can tell.
    pub(crate) fn compose(&self, mail: &Mail) -> Result<Composed, ComposeError> {
        let rendered = self.render(&mail.letter)?;
        let address: Address = mail.to.parse()?;
        let file_name = mail.file_name();
        let id = format!("<{}@{}>", file_name.trim_end_matches(".eml"), self.from.email.domain());
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(Some(printable(mail.letter.name())), address))
            .subject(mail.letter.subject())
            .date(mail.created_at.into())
            .message_id(Some(id))
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(rendered.text, rendered.html))?;
        Ok(Composed { message, file_name })
    }

    fn values(&self, letter: &Letter) -> (&'static str, Value) {
        let home = &self.public_url;
        let (name, subject) = (letter.name(), letter.subject());
        match letter {
            Letter::Welcome { .. } => ("welcome", context! { name, subject, home }),
            Letter::Reset { token, expires_at, .. } => {
                let token = token.as_deref().unwrap_or("(the code was removed)");
                let link = format!(
                    "{home}/password-reset?token={}",
                    utf8_percent_encode(token, &QUERY_VALUE)
                );
                let expires = expires_at.map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string());
                ("reset", context! { name, subject, home, token, link, expires })
            }
            Letter::Task { about, .. } => {
                let link = (about.kind != Kind::TaskDeleted)
                    .then(|| format!("{home}/tasks/{}", about.task_id));
                let sentence = about.sentence();
                let assigned = about.assigned;
                ("task", context! { name, subject, home, link, sentence, assigned })
            }
        }
    }
}

/// Says that no person wrote this mail, so that no machine answers it.
#[derive(Clone, Debug)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::letter::AboutTask;
    use crate::model::mail::tests::mail;

    pub(crate) fn composer() -> Composer {
        Composer::new("Ottla <ottla@example.org>".parse().unwrap(), "http://127.0.0.1:8080/")
            .unwrap()
    }

    fn about(kind: Kind) -> AboutTask {
        AboutTask {
            kind,
            task_id: 5,
            title: Some("<b>Milk</b> & “bread”".to_owned()),
            actor: Some("ben".to_owned()),
            own_act: false,
            assigned: true,
        }
    }

    fn letter(kind: Kind) -> Letter {
        Letter::Task { name: "anna".to_owned(), about: about(kind) }
    }

    #[test]
    fn a_task_mail_says_what_happened_and_links_to_the_task() {
        let rendered = composer().render(&letter(Kind::TaskUpdated)).unwrap();
        assert!(rendered.text.starts_with("Hello anna,\n\nben changed “<b>Milk</b> & “bread””.\n"));
        assert!(rendered.text.contains("The task is assigned to you.\n"));
        assert!(rendered.text.contains("\nhttp://127.0.0.1:8080/tasks/5\n"), "{}", rendered.text);
        assert!(
            rendered.html.contains("“&lt;b&gt;Milk&lt;&#x2f;b&gt; &amp; “bread””"),
            "{}",
            rendered.html
        );
    }

    #[test]
    fn a_deleted_task_is_not_linked() {
        let rendered = composer().render(&letter(Kind::TaskDeleted)).unwrap();
        assert!(!rendered.text.contains("/tasks/5") && !rendered.html.contains("/tasks/5"));
    }

    #[test]
    fn a_reset_mail_carries_the_token_until_it_is_forgotten() {
        let mut letter = mail().letter;
        let rendered = composer().render(&letter).unwrap();
        assert!(rendered.text.contains("\nsecret\n"));
        assert!(rendered.text.contains("http://127.0.0.1:8080/password-reset?token=secret"));
        letter.forget_secrets();
        let rendered = composer().render(&letter).unwrap();
        assert!(!rendered.text.contains("secret") && !rendered.html.contains("secret"));
    }

    #[test]
    fn no_name_and_no_title_adds_a_header_or_a_recipient() {
        let mut hostile = about(Kind::TaskUpdated);
        hostile.title = Some("x\r\nBcc: eve@example.com\r\n\r\nbody".to_owned());
        hostile.actor = Some("b\r\nX-Evil: 1".to_owned());
        let name = "anna\r\nBcc: eve@example.com, \"<eve@example.com>".to_owned();
        let mail = Mail { letter: Letter::Task { name, about: hostile }, ..mail() };
        let composed = composer().compose(&mail).unwrap();
        let recipients = composed.message.envelope().to();
        assert_eq!(recipients, ["anna@example.com".parse::<Address>().unwrap()]);
        let formatted = String::from_utf8(composed.message.formatted()).unwrap();
        let (head, _) = formatted.split_once("\r\n\r\n").unwrap();
        for line in head.split("\r\n") {
            let own = ["From: ", "To: ", "Subject: ", "Date: ", "Message-ID: ", "Auto-Submitted: "];
            let mime = ["MIME-Version: ", "Content-Type: ", " "];
            assert!(
                own.iter().chain(&mime).any(|name| line.starts_with(name)),
                "{line:?} in {head}"
            );
        }
    }

    #[test]
    fn an_address_with_a_line_break_is_refused() {
        for to in ["anna@example.com\r\nBcc: eve@example.com", "a b@example.com", "anna", ""] {
            let refused = composer().compose(&Mail { to: to.to_owned(), ..mail() });
            assert!(matches!(refused, Err(ComposeError::Address(_))), "{to:?}");
        }
    }

    #[test]
    fn every_attempt_has_the_same_message_id() {
        let mail = mail();
        let id = |mail: &Mail| {
            let formatted =
                String::from_utf8(composer().compose(mail).unwrap().message.formatted());
            formatted
                .unwrap()
                .lines()
                .find(|line| line.starts_with("Message-ID"))
                .unwrap()
                .to_owned()
        };
        assert_eq!(id(&mail), "Message-ID: <01J-7@example.org>");
        assert_eq!(id(&mail), id(&mail.clone()));
    }
}
