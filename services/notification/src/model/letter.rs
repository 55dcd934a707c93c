//! What stands in a mail and in an in-app entry, before any template.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::happening::{Kind, TaskChange};

/// So many characters of a title stand in a subject.
const SUBJECT_TITLE_CHARACTERS: usize = 120;

/// The content of a mail. Stored instead of the rendered text: it is smaller, and a secret can be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "letter", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Letter {
    Welcome { name: String },
    Reset { name: String, token: Option<String>, expires_at: Option<Timestamp> },
    Task { name: String, about: AboutTask },
}

/// One person's view of a change of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AboutTask {
    pub(crate) kind: Kind,
    pub(crate) task_id: i64,
    pub(crate) title: Option<String>,
    /// Who did it; none if it was the reader or nobody knows.
    pub(crate) actor: Option<String>,
    /// The reader did it.
    pub(crate) own_act: bool,
    /// The reader is the assignee, and did not create the task.
    pub(crate) assigned: bool,
}

impl AboutTask {
    /// The view that `reader` has of `change`, which a person named `actor` made.
    pub(crate) fn new(change: &TaskChange, reader: i64, actor: Option<&str>) -> Self {
        let own_act = change.actor_id == Some(reader);
        Self {
            kind: change.kind,
            task_id: change.task_id,
            title: change.title.clone(),
            actor: actor.filter(|_| !own_act).map(str::to_owned),
            own_act,
            assigned: change.assignee_id == Some(reader) && change.creator_id != Some(reader),
        }
    }

    /// The title in quotes, or its number where no title is known.
    pub(crate) fn task(&self) -> String {
        match &self.title {
            Some(title) => format!("“{}”", one_line(title)),
            None => format!("task {}", self.task_id),
        }
    }

    /// One plain sentence without its full stop.
    pub(crate) fn sentence(&self) -> String {
        let actor = match (&self.actor, self.own_act) {
            (_, true) => "You".to_owned(),
            (Some(actor), false) => one_line(actor),
            (None, false) => "Someone".to_owned(),
        };
        let did = match self.kind {
            Kind::TaskCreated => "created",
            Kind::TaskUpdated | Kind::Welcome | Kind::PasswordReset => "changed",
            Kind::TaskCompleted => "completed",
            Kind::TaskReopened => "reopened",
            Kind::TaskDeleted => "deleted",
        };
        format!("{actor} {did} {}", self.task())
    }
}

impl Letter {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Welcome { .. } => Kind::Welcome,
            Self::Reset { .. } => Kind::PasswordReset,
            Self::Task { about, .. } => about.kind,
        }
    }

    /// The name of the person it goes to.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Welcome { name } | Self::Reset { name, .. } | Self::Task { name, .. } => name,
        }
    }

    /// One line, whatever the title has in it.
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::Welcome { .. } => "Welcome to Ottla".to_owned(),
            Self::Reset { .. } => "Your new password for Ottla".to_owned(),
            Self::Task { about, .. } => about.sentence(),
        }
    }

    pub(crate) fn forget_secrets(&mut self) {
        if let Self::Reset { token, .. } = self {
            *token = None;
        }
    }
}

/// Without line breaks and other control characters, and not too long for a subject.
fn one_line(text: &str) -> String {
    let printable: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words = printable.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= SUBJECT_TITLE_CHARACTERS {
        return words;
    }
    let kept: String = words.chars().take(SUBJECT_TITLE_CHARACTERS).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: Kind, title: Option<&str>) -> TaskChange {
        TaskChange {
            kind,
            task_id: 5,
            team_id: Some(1),
            actor_id: Some(2),
            creator_id: Some(1),
            assignee_id: Some(2),
            title: title.map(str::to_owned),
        }
    }

    #[test]
    fn a_reader_is_told_who_did_what() {
        let completed = change(Kind::TaskCompleted, Some("Buy milk"));
        assert_eq!(
            AboutTask::new(&completed, 1, Some("ben")).sentence(),
            "ben completed “Buy milk”"
        );
        assert_eq!(AboutTask::new(&completed, 1, None).sentence(), "Someone completed “Buy milk”");
        let own = AboutTask::new(&completed, 2, Some("ben"));
        assert_eq!(own.sentence(), "You completed “Buy milk”");
        assert!(own.assigned);
    }

    #[test]
    fn a_subject_is_one_line_of_bounded_length() {
        let long = format!("a\r\nBcc: x@example.com\u{7}{}", "x".repeat(500));
        let about = AboutTask::new(&change(Kind::TaskUpdated, Some(&long)), 1, Some("b\nen"));
        let subject = Letter::Task { name: "anna".to_owned(), about }.subject();
        assert!(subject.starts_with("b en changed “a Bcc: x@example.com xxx"), "{subject}");
        assert!(subject.chars().count() < 150 && !subject.chars().any(char::is_control));
    }

    #[test]
    fn a_task_without_a_title_is_named_by_its_number() {
        let about = AboutTask::new(&change(Kind::TaskDeleted, None), 1, Some("ben"));
        assert_eq!(about.sentence(), "ben deleted task 5");
    }
}
