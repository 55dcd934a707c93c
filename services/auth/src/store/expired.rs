//! The end of what was made for a time.

use kit::Tx;

use super::rows::{Invitation, Reset, Session, key};

/// Rows that one sweep deletes at most; the rest waits for the next.
const AT_ONCE: usize = 500;

/// Deletes sessions, reset tokens and invitations whose time is over.
pub(crate) fn sweep(tx: &mut Tx<'_>) {
    let now = tx.now();
    let sessions = tx.scan::<Session>("", usize::MAX);
    for session in sessions.iter().filter(|session| session.expires_at <= now).take(AT_ONCE) {
        tx.delete::<Session>(&key(session.id));
    }
    let resets = tx.scan::<Reset>("", usize::MAX);
    for reset in resets.iter().filter(|reset| reset.expires_at <= now).take(AT_ONCE) {
        tx.delete::<Reset>(&reset.token_hash);
    }
    let invitations = tx.scan::<Invitation>("", usize::MAX);
    for invitation in invitations.iter().filter(|i| i.expires_at <= now).take(AT_ONCE) {
        tx.delete::<Invitation>(&key(invitation.id));
    }
}
