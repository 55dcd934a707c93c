//! Whether a person may be assigned: asked of auth before the command, held against departures in it.

use super::Api;
use crate::store;
use kit::{Tx, http::ApiError};

/// Who is to be assigned in a team, and what auth said of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Assignment {
    /// Nobody, or nobody new.
    Nobody,
    Member {
        team: i64,
        person: i64,
        /// When auth was asked.
        departures: u64,
    },
    /// Also whoever is to be assigned in a team that the caller is not in or that is not known yet.
    Stranger,
}

impl Assignment {
    pub(super) async fn ask(
        api: &Api,
        team: Option<i64>,
        person: Option<i64>,
    ) -> Result<Assignment, ApiError> {
        let Some(person) = person else { return Ok(Assignment::Nobody) };
        let Some(team) = team else { return Ok(Assignment::Stranger) };
        let departures = store::departures(api.commit.view(), team, person);
        let members = api.people.members(team).await?;
        if members.iter().any(|member| member.user_id == person) {
            Ok(Assignment::Member { team, person, departures })
        } else {
            Ok(Assignment::Stranger)
        }
    }

    /// Refuses a stranger, and a member who has left since.
    pub(super) fn check(self, tx: &Tx<'_>) -> Result<(), ApiError> {
        let allowed = match self {
            Assignment::Nobody => true,
            Assignment::Stranger => false,
            Assignment::Member { team, person, departures } => {
                store::departures_now(tx, team, person) == departures
            }
        };
        let message = "assigneeId must be someone in the task's team";
        if allowed { Ok(()) } else { Err(ApiError::invalid("assigneeId", message)) }
    }
}
