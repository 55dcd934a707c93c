//! Ways into a team for those whom no owner added.

use jiff::{SignedDuration, Timestamp};
use kit::Tx;

use super::{
    Caller, Refusal, members,
    rows::{Invitation, Member, Team, User, key},
    teams,
};
use crate::model::{
    account::fold,
    team::{Act, Role},
};

/// Invitations that one team may have open.
pub(crate) const INVITATIONS_PER_TEAM: usize = 200;

/// An invitation whose fields are valid and whose code is drawn.
#[derive(Debug, Clone)]
pub(crate) struct NewInvitation {
    pub team_id: i64,
    pub email: Option<String>,
    pub role: Role,
    pub code_hash: String,
    pub valid_for: SignedDuration,
}

/// Makes an invitation; those that expired make room.
pub(crate) fn create(
    tx: &mut Tx<'_>,
    caller: Caller,
    new: &NewInvitation,
) -> Result<Invitation, Refusal> {
    caller.in_team(tx, new.team_id, Act::Run)?;
    teams::shared(tx, new.team_id)?;
    let now = tx.now();
    let (old, open): (Vec<_>, Vec<_>) = tx
        .by_index::<Invitation>(Invitation::BY_TEAM, &key(new.team_id))
        .into_iter()
        .partition(|invitation| invitation.expires_at <= now);
    if open.len() >= INVITATIONS_PER_TEAM {
        return Err(Refusal::conflict(
            "too_many_invitations",
            "the team has as many open invitations as is allowed",
        ));
    }
    for invitation in old {
        tx.delete::<Invitation>(&key(invitation.id));
    }
    let invitation = Invitation {
        id: tx.next_id("invitations"),
        team_id: new.team_id,
        email: new.email.clone(),
        role: new.role,
        code_hash: new.code_hash.clone(),
        created_by: caller.user_id,
        created_at: now,
        expires_at: now.saturating_add(new.valid_for).unwrap_or(Timestamp::MAX),
    };
    tx.put(&invitation);
    Ok(invitation)
}

/// Takes an invitation back.
pub(crate) fn delete(
    tx: &mut Tx<'_>,
    caller: Caller,
    team_id: i64,
    id: i64,
) -> Result<(), Refusal> {
    caller.in_team(tx, team_id, Act::Run)?;
    tx.get::<Invitation>(&key(id))
        .filter(|invitation| invitation.team_id == team_id)
        .ok_or(Refusal::Unknown)?;
    tx.delete::<Invitation>(&key(id));
    Ok(())
}

/// Takes back all that a person made for a team who does not run it any more: they may have the codes themselves.
pub(super) fn withdraw(tx: &mut Tx<'_>, team_id: i64, created_by: i64) {
    for invitation in tx.by_index::<Invitation>(Invitation::BY_TEAM, &key(team_id)) {
        if invitation.created_by == created_by {
            tx.delete::<Invitation>(&key(invitation.id));
        }
    }
}

/// Joins the caller to the team of the code.
pub(crate) fn accept(
    tx: &mut Tx<'_>,
    caller: Caller,
    code_hash: &str,
) -> Result<(Team, Role), Refusal> {
    let User { id, email, .. } = caller.user(tx)?;
    let invitation = find(tx, code_hash, &email)?;
    join(tx, &invitation, id)?;
    let team = tx.get::<Team>(&key(invitation.team_id)).ok_or(Refusal::Unknown)?;
    Ok((team, invitation.role))
}

/// The invitation of a code, if it still holds and is meant for this address.
pub(super) fn find(tx: &Tx<'_>, code_hash: &str, email: &str) -> Result<Invitation, Refusal> {
    let found = tx.by_index::<Invitation>(Invitation::BY_CODE, code_hash).into_iter().next();
    let invitation = found.filter(|i| i.expires_at > tx.now()).ok_or(Refusal::Unknown)?;
    match &invitation.email {
        Some(invited) if fold(invited) != fold(email) => Err(Refusal::Forbidden {
            code: "invited_someone_else",
            message: "this invitation is for another e-mail address",
        }),
        Some(_) | None => Ok(invitation),
    }
}

/// Makes the membership, and uses the invitation up unless it is an open one.
pub(super) fn join(
    tx: &mut Tx<'_>,
    invitation: &Invitation,
    user_id: i64,
) -> Result<Member, Refusal> {
    let member = members::insert(tx, invitation.team_id, user_id, invitation.role)?;
    if invitation.email.is_some() {
        tx.delete::<Invitation>(&key(invitation.id));
    }
    Ok(member)
}
