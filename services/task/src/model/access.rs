//! Who may do what: the caller's role in the task's team decides.
//!
//! | | sees | completes, reopens | everything else |
//! |---|---|---|---|
//! | owner, member | yes | yes | yes |
//! | guest | yes | what is assigned to them | no |
//! | not in the team | no: the task does not exist for them | no | no |

/// What the caller is in the task's team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Owner,
    Member,
    Guest,
}

/// What is to be done with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Create in the team, edit or delete.
    Change,
    /// Complete or reopen, and nothing else.
    SetStatus { assigned_to_caller: bool },
}

/// Whether someone who sees the task may do this.
pub fn may(role: Role, act: Act) -> bool {
    match role {
        Role::Owner | Role::Member => true,
        Role::Guest => act == Act::SetStatus { assigned_to_caller: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_sets_only_the_status_of_what_is_assigned_to_them() {
        let acts = [
            Act::Change,
            Act::SetStatus { assigned_to_caller: false },
            Act::SetStatus { assigned_to_caller: true },
        ];
        assert_eq!(acts.map(|act| may(Role::Guest, act)), [false, false, true]);
        assert_eq!(acts.map(|act| may(Role::Member, act)), [true; 3]);
        assert_eq!(acts.map(|act| may(Role::Owner, act)), [true; 3]);
    }
}
