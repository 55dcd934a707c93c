//! A password replaced: by who knows the old one, or by who reads the account's mail.

use jiff::{SignedDuration, Timestamp};
use kit::{Tx, View};

use super::{
    Caller, Refusal, accounts,
    rows::{PasswordHash, Reset, User, key},
    sessions,
};
use crate::model::{account::fold, token::Token};

/// What the bearer of a token that does not count is told.
pub(crate) const NO_SUCH_TOKEN: &str =
    "this token does not exist, was used, or is older than an hour";

/// Until another mail is sent to the same account.
const ONE_MAIL_PER: SignedDuration = SignedDuration::from_mins(1);
/// How long a reset token works.
pub(crate) const RESET_VALID_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Replaces the password if it is still `old`, and ends the caller's other sessions.
pub(crate) fn change(
    tx: &mut Tx<'_>,
    caller: Caller,
    old: &PasswordHash,
    new: &PasswordHash,
) -> Result<(), Refusal> {
    let user = caller.user(tx)?;
    if user.password_hash != *old {
        return Err(Refusal::conflict("changed_meanwhile", "the password was just changed"));
    }
    replace(tx, user, new, Some(caller.session_id));
    Ok(())
}

/// Makes a reset token for the account of this address, if there is one; an earlier one stops
/// working. Whoever got a mail just now gets no other. The secret leaves only in an event on a topic that is closed to all but the services.
pub(crate) fn offer_reset(tx: &mut Tx<'_>, email: &str, token: &Token) -> Result<(), Refusal> {
    let found = tx.by_index::<User>(User::BY_EMAIL, &fold(email)).into_iter().next();
    let user = found.ok_or(Refusal::Unknown)?;
    let earlier = tx.by_index::<Reset>(Reset::BY_USER, &key(user.id));
    let just_now =
        |reset: &Reset| reset.expires_at.duration_since(tx.now()) > RESET_VALID_FOR - ONE_MAIL_PER;
    if earlier.iter().any(just_now) {
        return Err(Refusal::Unknown);
    }
    accounts::forget_resets(tx, user.id);
    let expires_at = tx.now().saturating_add(RESET_VALID_FOR).unwrap_or(Timestamp::MAX);
    tx.put(&Reset { token_hash: token.hash(), user_id: user.id, expires_at });
    tx.emit(events::user::PasswordResetRequested {
        user_id: user.id,
        email: user.email,
        username: user.username,
        token: token.reveal().to_owned(),
        expires_at,
    });
    Ok(())
}

/// Whether a reset token still works.
pub(crate) fn is_open(view: &View, token_hash: &str, now: Timestamp) -> bool {
    view.get::<Reset>(token_hash).is_some_and(|reset| reset.expires_at > now)
}

/// Uses a reset token up: sets the password and ends every session.
pub(crate) fn reset(tx: &mut Tx<'_>, token_hash: &str, new: &PasswordHash) -> Result<(), Refusal> {
    let reset = tx.get::<Reset>(token_hash).filter(|reset| reset.expires_at > tx.now());
    let user = reset.and_then(|reset| tx.get::<User>(&key(reset.user_id)));
    let user =
        user.ok_or(Refusal::Invalid { field: "token", code: "unknown", message: NO_SUCH_TOKEN })?;
    replace(tx, user, new, None);
    Ok(())
}

fn replace(tx: &mut Tx<'_>, mut user: User, new: &PasswordHash, kept_session: Option<i64>) {
    accounts::forget_resets(tx, user.id);
    sessions::end_all_but(tx, user.id, kept_session);
    user.password_hash = new.clone();
    tx.put(&user);
}
