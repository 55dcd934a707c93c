//! What a person wants to get by mail.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::happening::Kind;

/// Which mails a person gets. A field that is left out is true. In-app entries do not depend on it, nor do mails
/// that are asked for, such as the one that resets a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own on a settings page")]
pub(crate) struct Preferences {
    /// A task was created.
    pub(crate) task_created: bool,
    /// A task was changed.
    pub(crate) task_updated: bool,
    /// A task was completed or reopened.
    pub(crate) task_completed: bool,
    /// A task was deleted.
    pub(crate) task_deleted: bool,
    /// Also about what one did oneself.
    pub(crate) own_acts: bool,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            task_created: true,
            task_updated: true,
            task_completed: true,
            task_deleted: true,
            own_acts: true,
        }
    }
}

impl Preferences {
    /// Whether a mail of this kind is wanted; `own_act` says that the person did it.
    pub(crate) fn want(self, kind: Kind, own_act: bool) -> bool {
        let kind_wanted = match kind {
            Kind::Welcome | Kind::PasswordReset => return true,
            Kind::TaskCreated => self.task_created,
            Kind::TaskUpdated => self.task_updated,
            Kind::TaskCompleted | Kind::TaskReopened => self.task_completed,
            Kind::TaskDeleted => self.task_deleted,
        };
        kind_wanted && (self.own_acts || !own_act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_mailed_until_it_is_turned_off() {
        let all = Preferences::default();
        assert!(all.want(Kind::TaskUpdated, true));
        let quiet = Preferences { task_updated: false, own_acts: false, ..all };
        assert!(!quiet.want(Kind::TaskUpdated, false));
        assert!(!quiet.want(Kind::TaskCompleted, true));
        assert!(quiet.want(Kind::TaskCompleted, false));
    }

    #[test]
    fn a_reset_mail_cannot_be_turned_off() {
        let none: Preferences = serde_json::from_str(
            r#"{"taskCreated":false,"taskUpdated":false,"taskCompleted":false,"taskDeleted":false,"ownActs":false}"#,
        )
        .unwrap();
        assert!(none.want(Kind::PasswordReset, true));
        assert!(!none.want(Kind::TaskReopened, false));
    }
}
