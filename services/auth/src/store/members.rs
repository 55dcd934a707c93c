//! Who is in a team, and as what.

use kit::Tx;

use super::{
    Caller, Refusal, invitations, roles,
    rows::{Member, User, key},
    teams,
};
use crate::model::team::{Act, Role, orphans};

/// People that one team may have.
pub(crate) const MEMBERS_PER_TEAM: usize = 1000;

/// Adds a person who has an account.
pub(crate) fn add(
    tx: &mut Tx<'_>,
    caller: Caller,
    team_id: i64,
    user_id: i64,
    role: Role,
) -> Result<(Member, User), Refusal> {
    caller.in_team(tx, team_id, Act::Run)?;
    teams::shared(tx, team_id)?;
    let user = tx.get::<User>(&key(user_id)).ok_or(Refusal::Invalid {
        field: "userId",
        code: "unknown",
        message: "there is no such user",
    })?;
    Ok((insert(tx, team_id, user_id, role)?, user))
}

pub(super) fn insert(
    tx: &mut Tx<'_>,
    team_id: i64,
    user_id: i64,
    role: Role,
) -> Result<Member, Refusal> {
    if tx.get::<Member>(&Member::key_of(team_id, user_id)).is_some() {
        return Err(Refusal::conflict("already_member", "this person is in the team already"));
    }
    if tx.by_index::<Member>(Member::BY_TEAM, &key(team_id)).len() >= MEMBERS_PER_TEAM
        || tx.by_index::<Member>(Member::BY_USER, &key(user_id)).len() >= teams::TEAMS_PER_USER
    {
        return Err(Refusal::conflict("team_full", "the team has as many members as is allowed"));
    }
    let member = Member { team_id, user_id, role, joined_at: tx.now() };
    tx.put(&member);
    Ok(member)
}

/// Gives a member another role; the last owner stays one.
pub(crate) fn change_role(
    tx: &mut Tx<'_>,
    caller: Caller,
    team_id: i64,
    user_id: i64,
    role: Option<Role>,
) -> Result<(Member, User), Refusal> {
    caller.in_team(tx, team_id, Act::Run)?;
    let (mut member, user) = known(tx, team_id, user_id)?;
    if let Some(role) = role
        && role != member.role
    {
        keep_an_owner(tx, team_id, user_id, Some(role))?;
        invitations::withdraw(tx, team_id, user_id);
        member.role = role;
        tx.put(&member);
    }
    Ok((member, user))
}

/// Takes a member out, who may be the caller.
pub(crate) fn leave(
    tx: &mut Tx<'_>,
    caller: Caller,
    team_id: i64,
    user_id: i64,
) -> Result<(), Refusal> {
    caller.in_team(tx, team_id, Act::Remove { oneself: user_id == caller.user_id })?;
    let (member, _) = known(tx, team_id, user_id)?;
    teams::shared(tx, team_id)?;
    keep_an_owner(tx, team_id, user_id, None)?;
    remove(tx, &member, caller.user_id);
    Ok(())
}

fn known(tx: &Tx<'_>, team_id: i64, user_id: i64) -> Result<(Member, User), Refusal> {
    let member = tx.get::<Member>(&Member::key_of(team_id, user_id));
    member.zip(tx.get::<User>(&key(user_id))).ok_or(Refusal::Unknown)
}

fn keep_an_owner(
    tx: &Tx<'_>,
    team_id: i64,
    user_id: i64,
    then: Option<Role>,
) -> Result<(), Refusal> {
    if orphans(&roles(tx, team_id), user_id, then) {
        Err(Refusal::conflict(
            "last_owner",
            "the last owner cannot leave or step down: make someone else an owner first",
        ))
    } else {
        Ok(())
    }
}

pub(super) fn remove(tx: &mut Tx<'_>, member: &Member, actor: i64) {
    tx.delete::<Member>(&Member::key_of(member.team_id, member.user_id));
    invitations::withdraw(tx, member.team_id, member.user_id);
    tx.emit(events::team::TeamLeft {
        team_id: member.team_id,
        user_id: member.user_id,
        removed_by: actor,
    });
}
