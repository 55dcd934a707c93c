//! Registration, changes of one's account, and its end.

use events::Publish;
use kit::{Tx, View};

use super::{
    Caller, Refusal, invitations, roles,
    rows::{Member, PasswordHash, Reset, Session, Team, User, key},
    teams,
};
use crate::{
    Registration,
    model::{
        account::fold,
        team::{Farewell, farewell},
    },
};

/// A registration whose fields are valid and whose password is hashed.
#[derive(Debug, Clone)]
pub(crate) struct NewAccount {
    pub ulid: String,
    pub team_ulid: String,
    pub username: String,
    pub email: String,
    pub password_hash: PasswordHash,
    pub invitation_hash: Option<String>,
}

/// Whether a registration has a chance, before its password is hashed. What counts is what
/// [`register`] finds.
pub(crate) fn foresee(
    view: &View,
    mode: Registration,
    (username, email): (&str, &str),
    invited: bool,
) -> Result<(), Refusal> {
    let first = view.by_index::<User>(User::BY_OFFICE, User::ADMINISTRATOR).is_empty();
    may_register(mode, first, invited)?;
    free(|index, key| view.by_index(index, key), None, username, email)
}

/// Makes the account, its personal team and, with an invitation, the membership.
pub(crate) fn register(
    tx: &mut Tx<'_>,
    mode: Registration,
    new: &NewAccount,
) -> Result<User, Refusal> {
    let first = tx.by_index::<User>(User::BY_OFFICE, User::ADMINISTRATOR).is_empty();
    let invitation = match &new.invitation_hash {
        Some(hash) => Some(invitations::find(tx, hash, &new.email).map_err(at_registration)?),
        None => None,
    };
    may_register(mode, first, invitation.is_some())?;
    free(|index, key| tx.by_index(index, key), None, &new.username, &new.email)?;

    let id = tx.next_id("users");
    let team = teams::insert(tx, &new.team_ulid, &new.username, id, true);
    let user = User {
        id,
        ulid: new.ulid.clone(),
        username: new.username.clone(),
        email: new.email.clone(),
        password_hash: new.password_hash.clone(),
        administrator: first,
        personal_team_id: team.id,
        created_at: tx.now(),
    };
    tx.put(&user);
    if let Some(invitation) = invitation {
        invitations::join(tx, &invitation, id)?;
    }
    let created = events::user::UserCreated {
        user_id: id,
        username: user.username.clone(),
        email: user.email.clone(),
    };
    let registered = events::user::UserRegistered {
        user_id: id,
        username: user.username.clone(),
        email: user.email.clone(),
    };
    let meta = tx.meta();
    tx.push(created.into_event(&meta));
    tx.push(registered.into_event(&meta));
    Ok(user)
}

fn may_register(mode: Registration, first: bool, invited: bool) -> Result<(), Refusal> {
    match mode {
        Registration::Open => Ok(()),
        Registration::Invite if first || invited => Ok(()),
        Registration::Invite => Err(Refusal::Forbidden {
            code: "invitation_needed",
            message: "registration needs an invitation",
        }),
        Registration::Closed => Err(Refusal::Forbidden {
            code: "registration_closed",
            message: "registration is closed",
        }),
    }
}

fn at_registration(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Unknown => Refusal::Invalid {
            field: "invitation",
            code: "unknown",
            message: "this invitation does not exist or is no longer valid",
        },
        other => other,
    }
}

/// Refuses a username or an address that someone other than `own` has.
fn free(
    find: impl Fn(&'static str, &str) -> Vec<User>,
    own: Option<i64>,
    username: &str,
    email: &str,
) -> Result<(), Refusal> {
    let taken = |index, name: &str| find(index, &fold(name)).iter().any(|u| Some(u.id) != own);
    let refusal = |field, message: &str| Refusal::Conflict {
        code: "taken",
        field: Some(field),
        message: message.to_owned(),
    };
    if taken(User::BY_EMAIL, email) {
        return Err(refusal("email", "there is an account with this e-mail address"));
    }
    if taken(User::BY_USERNAME, username) {
        return Err(refusal("username", "this username is taken"));
    }
    Ok(())
}

/// Changes name or address. A new address makes reset tokens mailed to the old one worthless.
pub(crate) fn change(
    tx: &mut Tx<'_>,
    caller: Caller,
    username: Option<&str>,
    email: Option<&str>,
) -> Result<User, Refusal> {
    let before = caller.user(tx)?;
    let mut user = before.clone();
    username.unwrap_or(&before.username).clone_into(&mut user.username);
    email.unwrap_or(&before.email).clone_into(&mut user.email);
    if user == before {
        return Ok(before);
    }
    free(|index, key| tx.by_index(index, key), Some(user.id), &user.username, &user.email)?;
    if user.email != before.email {
        forget_resets(tx, user.id);
    }
    tx.put(&user);
    Ok(user)
}

/// Ends the account: teams in which nobody else is go with it, the others are left.
pub(crate) fn close(tx: &mut Tx<'_>, caller: Caller) -> Result<(), Refusal> {
    let user = caller.user(tx)?;
    for member in tx.by_index::<Member>(Member::BY_USER, &key(user.id)) {
        match farewell(&roles(tx, member.team_id), user.id) {
            Farewell::Delete => teams::remove(tx, member.team_id, user.id),
            Farewell::Leave => super::members::remove(tx, &member, user.id),
            Farewell::Refuse => return Err(last_owner_of(tx, member.team_id)),
        }
    }
    for session in tx.by_index::<Session>(Session::BY_USER, &key(user.id)) {
        tx.delete::<Session>(&key(session.id));
    }
    forget_resets(tx, user.id);
    tx.delete::<User>(&key(user.id));
    if user.administrator {
        pass_on_office(tx, user.id);
    }
    Ok(())
}

fn last_owner_of(tx: &Tx<'_>, team_id: i64) -> Refusal {
    let name = tx.get::<Team>(&key(team_id)).map(|team| team.name).unwrap_or_default();
    Refusal::Conflict {
        code: "last_owner",
        field: None,
        message: format!(
            "others are in the team \"{name}\", of which you are the last owner: make one of \
             them an owner, or delete the team, first"
        ),
    }
}

/// The administrator is who has been here longest.
fn pass_on_office(tx: &mut Tx<'_>, leaver: i64) {
    let oldest = tx.scan::<User>("", 2);
    if let Some(mut heir) = oldest.into_iter().find(|user| user.id != leaver) {
        heir.administrator = true;
        tx.put(&heir);
    }
}

pub(super) fn forget_resets(tx: &mut Tx<'_>, user_id: i64) {
    for reset in tx.by_index::<Reset>(Reset::BY_USER, &key(user_id)) {
        tx.delete::<Reset>(&reset.token_hash);
    }
}
