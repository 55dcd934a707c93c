//! The rows of this service and the commands that change them.
//!
//! Every command is a plan over [`kit::Tx`]: it may run twice, and a refusal leaves nothing
//! behind. Who may do what is asked again here, against the state in which the command takes
//! effect.

pub(crate) mod accounts;
pub(crate) mod expired;
pub(crate) mod invitations;
pub(crate) mod members;
pub(crate) mod passwords;
pub(crate) mod rows;
pub(crate) mod sessions;
pub(crate) mod teams;

use kit::{Tx, http::idempotency::Reused};
use rows::{Member, Session, User, key};

use crate::model::team::{Act, Role, Verdict, may};

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The session ended while the command waited.
    SignedOut,
    /// There is no such thing as far as this person may know.
    Unknown,
    /// Seen, but not allowed.
    Forbidden { code: &'static str, message: &'static str },
    /// It contradicts what is there.
    Conflict { code: &'static str, field: Option<&'static str>, message: String },
    /// A field names something that does not exist.
    Invalid { field: &'static str, code: &'static str, message: &'static str },
}

impl From<Reused> for Refusal {
    fn from(_: Reused) -> Refusal {
        Refusal::Invalid {
            field: "Idempotency-Key",
            code: "idempotency_key_reused",
            message: "this Idempotency-Key was used for a request with another body",
        }
    }
}

impl Refusal {
    pub(crate) const OWNER_ONLY: Refusal =
        Refusal::Forbidden { code: "owner_only", message: "only an owner of the team may do this" };

    /// The answer of a repeated request was thrown away while it was asked for.
    pub(crate) const FORGOTTEN: Refusal = Refusal::Invalid {
        field: "Idempotency-Key",
        code: "idempotency_key_expired",
        message: "this Idempotency-Key has just expired; take a new one",
    };

    fn conflict(code: &'static str, message: &str) -> Refusal {
        Refusal::Conflict { code, field: None, message: message.to_owned() }
    }
}

/// Who gives a command: as seen by the request, and looked up again when the command is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    pub user_id: i64,
    pub session_id: i64,
}

impl Caller {
    fn user(self, tx: &Tx<'_>) -> Result<User, Refusal> {
        let session = tx.get::<Session>(&key(self.session_id));
        if session.is_none_or(|session| session.user_id != self.user_id) {
            return Err(Refusal::SignedOut);
        }
        tx.get::<User>(&key(self.user_id)).ok_or(Refusal::SignedOut)
    }

    /// The caller's membership, if it allows the act.
    fn in_team(self, tx: &Tx<'_>, team_id: i64, act: Act) -> Result<Member, Refusal> {
        self.user(tx)?;
        let member = tx.get::<Member>(&Member::key_of(team_id, self.user_id));
        match (may(member.as_ref().map(|m| m.role), act), member) {
            (Verdict::Yes, Some(member)) => Ok(member),
            (Verdict::Forbidden, _) => Err(Refusal::OWNER_ONLY),
            (Verdict::Unknown, _) | (Verdict::Yes, None) => Err(Refusal::Unknown),
        }
    }
}

fn roles(tx: &Tx<'_>, team_id: i64) -> Vec<(i64, Role)> {
    let members = tx.by_index::<Member>(Member::BY_TEAM, &key(team_id));
    members.iter().map(|member| (member.user_id, member.role)).collect()
}
