//! Teams: their names, the roles in them, and who may do what.

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Characters.
pub(crate) const TEAM_NAME_MAX_CHARS: usize = 100;

/// What a person is in a team. Owners run it, members work in it, guests look on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Guest,
    Member,
    Owner,
}

/// What someone wants to do with a team.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// See the team and its members.
    See,
    /// Rename it, delete it, see and make invitations, add, promote and demote members.
    Run,
    /// Take this person out of it, who may be oneself.
    Remove { oneself: bool },
}

/// The answer to "may I?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Yes,
    /// Seen, but not allowed: 403.
    Forbidden,
    /// Not even seen: 404.
    Unknown,
}

/// The one place where the rights of roles are decided; `None` is no member.
pub(crate) fn may(role: Option<Role>, act: Act) -> Verdict {
    match (role, act) {
        (None, _) => Verdict::Unknown,
        (Some(_), Act::See | Act::Remove { oneself: true }) | (Some(Role::Owner), _) => {
            Verdict::Yes
        }
        (Some(Role::Member | Role::Guest), Act::Run | Act::Remove { oneself: false }) => {
            Verdict::Forbidden
        }
    }
}

/// Whether the team would be left without an owner if this member's role became `then` (`None`:
/// leaves).
pub(crate) fn orphans(members: &[(i64, Role)], user_id: i64, then: Option<Role>) -> bool {
    let is_owner = members.iter().any(|&(id, role)| id == user_id && role == Role::Owner);
    let others = members.iter().any(|&(id, role)| id != user_id && role == Role::Owner);
    is_owner && !others && then != Some(Role::Owner)
}

/// What becomes of a team when one of its members closes the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Nobody else is in it: it goes too.
    Delete,
    /// Others stay, among them an owner.
    Leave,
    /// Others would stay without an owner.
    Refuse,
}

/// Decides what becomes of a team when `user_id` closes the account.
pub(crate) fn farewell(members: &[(i64, Role)], user_id: i64) -> Farewell {
    if members.iter().all(|&(id, _)| id == user_id) {
        Farewell::Delete
    } else if orphans(members, user_id, None) {
        Farewell::Refuse
    } else {
        Farewell::Leave
    }
}

/// Accepts the name of a team, without the spaces around it.
pub(crate) fn name(raw: &str) -> Result<&str, Invalid> {
    const FIELD: &str = "name";
    let name = raw.trim();
    if name.is_empty() {
        return Err(Invalid::new(FIELD, "empty", "a team needs a name"));
    }
    if name.chars().count() > TEAM_NAME_MAX_CHARS {
        return Err(Invalid::new(
            FIELD,
            "too_long",
            format!("the name of a team has at most {TEAM_NAME_MAX_CHARS} characters"),
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(Invalid::new(FIELD, "invalid", "the name of a team is one line of text"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_owners_run_a_team_and_strangers_do_not_know_it() {
        assert_eq!(may(Some(Role::Owner), Act::Run), Verdict::Yes);
        assert_eq!(may(Some(Role::Member), Act::Run), Verdict::Forbidden);
        assert_eq!(may(Some(Role::Guest), Act::Run), Verdict::Forbidden);
        assert_eq!(may(None, Act::Run), Verdict::Unknown);
        assert_eq!(may(Some(Role::Guest), Act::See), Verdict::Yes);
        assert_eq!(may(None, Act::See), Verdict::Unknown);
    }

    #[test]
    fn everyone_may_leave_but_only_owners_remove_others() {
        assert_eq!(may(Some(Role::Guest), Act::Remove { oneself: true }), Verdict::Yes);
        assert_eq!(may(Some(Role::Member), Act::Remove { oneself: false }), Verdict::Forbidden);
        assert_eq!(may(Some(Role::Owner), Act::Remove { oneself: false }), Verdict::Yes);
    }

    #[test]
    fn the_last_owner_can_neither_leave_nor_step_down() {
        let members = [(1, Role::Owner), (2, Role::Member)];
        assert!(orphans(&members, 1, None));
        assert!(orphans(&members, 1, Some(Role::Member)));
        assert!(!orphans(&members, 1, Some(Role::Owner)));
        assert!(!orphans(&members, 2, None));
        let two = [(1, Role::Owner), (2, Role::Owner)];
        assert!(!orphans(&two, 1, None));
        assert!(!orphans(&two, 2, Some(Role::Guest)));
    }

    #[test]
    fn a_closed_account_takes_along_only_what_was_its_own() {
        assert_eq!(farewell(&[(1, Role::Owner)], 1), Farewell::Delete);
        assert_eq!(farewell(&[(1, Role::Owner), (2, Role::Owner)], 1), Farewell::Leave);
        assert_eq!(farewell(&[(1, Role::Guest), (2, Role::Owner)], 1), Farewell::Leave);
        assert_eq!(farewell(&[(1, Role::Owner), (2, Role::Member)], 1), Farewell::Refuse);
    }

    #[test]
    fn names_of_teams_are_one_line() {
        assert_eq!(name("  The house  "), Ok("The house"));
        assert_eq!(name(" ").unwrap_err().code, "empty");
        assert_eq!(name("a\nb").unwrap_err().code, "invalid");
        assert_eq!(name(&"é".repeat(TEAM_NAME_MAX_CHARS + 1)).unwrap_err().code, "too_long");
        assert!(name(&"é".repeat(TEAM_NAME_MAX_CHARS)).is_ok());
    }

    #[test]
    fn roles_are_lower_case_words() {
        assert_eq!(serde_json::to_string(&Role::Owner).unwrap(), "\"owner\"");
        assert_eq!(serde_json::from_str::<Role>("\"guest\"").unwrap(), Role::Guest);
        assert!(serde_json::from_str::<Role>("\"admin\"").is_err());
    }
}
