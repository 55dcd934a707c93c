//! What the API shows: never a hash, never another's address without need.

use kit::time::Millis;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    model::team::Role,
    store::rows::{Invitation, Member, Session, Team, User},
};

/// One's account, as made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    pub id: i64,
    pub username: String,
    pub email: String,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Millis,
}

/// One's account, as it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Me {
    #[serde(flatten)]
    pub account: Account,
    /// The first person registered; after their leaving, who has been here longest.
    pub administrator: bool,
    /// The team that one has to oneself.
    pub personal_team_id: i64,
}

/// What was asked for at log-in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LoggedIn {
    /// To be sent as `Authorization: Bearer <token>`; shown this once.
    pub token: String,
    pub user: Me,
}

/// A person as others see them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Person {
    pub id: i64,
    pub username: String,
    /// Only for oneself and for who shares a team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Millis,
}

/// A log-in that has not ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionView {
    pub id: i64,
    /// What the client said it is.
    pub user_agent: String,
    /// The one that this request uses.
    pub current: bool,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Millis,
    /// To the hour.
    #[schema(value_type = String, format = DateTime)]
    pub last_used_at: Millis,
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Millis,
}

/// A team as one of its members sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TeamView {
    pub id: i64,
    pub name: String,
    /// One's own role.
    pub role: Role,
    pub personal: bool,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Millis,
}

/// A person in a team.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemberView {
    pub user_id: i64,
    pub username: String,
    pub email: String,
    pub role: Role,
    #[schema(value_type = String, format = DateTime)]
    pub joined_at: Millis,
}

/// An open way into a team.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InvitationView {
    pub id: i64,
    pub team_id: i64,
    /// The only address that may use it, once; absent: everyone with the code may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    pub role: Role,
    /// Shown once, in the answer that made it: put in there, so that no kept answer has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub created_by: i64,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Millis,
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Millis,
}

impl From<&User> for Account {
    fn from(user: &User) -> Account {
        Account {
            id: user.id,
            username: user.username.clone(),
            email: user.email.clone(),
            created_at: Millis(user.created_at),
        }
    }
}

impl From<&User> for Me {
    fn from(user: &User) -> Me {
        Me {
            account: Account::from(user),
            administrator: user.administrator,
            personal_team_id: user.personal_team_id,
        }
    }
}

impl Person {
    pub(crate) fn of(user: User, shows_email: bool) -> Person {
        Person {
            id: user.id,
            username: user.username,
            email: shows_email.then_some(user.email),
            created_at: Millis(user.created_at),
        }
    }
}

impl SessionView {
    pub(crate) fn of(session: Session, current: i64) -> SessionView {
        SessionView {
            id: session.id,
            user_agent: session.user_agent,
            current: session.id == current,
            created_at: Millis(session.created_at),
            last_used_at: Millis(session.last_used_at),
            expires_at: Millis(session.expires_at),
        }
    }
}

impl TeamView {
    pub(crate) fn of(team: Team, role: Role) -> TeamView {
        TeamView {
            id: team.id,
            name: team.name,
            role,
            personal: team.personal,
            created_at: Millis(team.created_at),
        }
    }
}

impl MemberView {
    pub(crate) fn of(member: &Member, user: User) -> MemberView {
        MemberView {
            user_id: user.id,
            username: user.username,
            email: user.email,
            role: member.role,
            joined_at: Millis(member.joined_at),
        }
    }
}

impl InvitationView {
    pub(crate) fn of(invitation: Invitation) -> InvitationView {
        InvitationView {
            id: invitation.id,
            team_id: invitation.team_id,
            email: invitation.email,
            role: invitation.role,
            code: None,
            created_by: invitation.created_by,
            created_at: Millis(invitation.created_at),
            expires_at: Millis(invitation.expires_at),
        }
    }
}
