//! Sessions: opened at log-in, touched in use, ended.

use jiff::{SignedDuration, Timestamp};
use kit::{Tx, View};

use super::{
    Caller, Refusal,
    rows::{PasswordHash, Session, User, key},
};

/// Sessions that one person may have; the one unused for longest makes room.
pub(crate) const SESSIONS_PER_USER: usize = 128;
/// A session's last use is written down when the last note is older than this.
pub(crate) const TOUCH_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// How long a session lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetime {
    /// Without being used.
    pub idle: SignedDuration,
    /// From the log-in, however much it is used.
    pub longest: SignedDuration,
}

impl Lifetime {
    fn expiry(self, created_at: Timestamp, now: Timestamp) -> Timestamp {
        let after = |from: Timestamp, by| from.saturating_add(by).unwrap_or(Timestamp::MAX);
        after(now, self.idle).min(after(created_at, self.longest))
    }
}

/// A log-in whose password was right.
#[derive(Debug, Clone)]
pub(crate) struct NewSession {
    pub user_id: i64,
    /// The hash that the password was compared with: if it was changed since, the log-in fails.
    pub password_hash: PasswordHash,
    pub token_hash: String,
    pub user_agent: String,
    pub lifetime: Lifetime,
}

/// Opens a session.
pub(crate) fn open(tx: &mut Tx<'_>, new: &NewSession) -> Result<User, Refusal> {
    let user = tx
        .get::<User>(&key(new.user_id))
        .filter(|user| user.password_hash == new.password_hash)
        .ok_or(Refusal::SignedOut)?;
    make_room(tx, user.id);
    let now = tx.now();
    let session = Session {
        id: tx.next_id("sessions"),
        user_id: user.id,
        token_hash: new.token_hash.clone(),
        user_agent: new.user_agent.clone(),
        created_at: now,
        last_used_at: now,
        expires_at: new.lifetime.expiry(now, now),
    };
    tx.put(&session);
    tx.emit(events::user::UserAuthenticated { user_id: user.id, session_id: session.id });
    Ok(user)
}

fn make_room(tx: &mut Tx<'_>, user_id: i64) {
    let now = tx.now();
    let mut sessions = tx.by_index::<Session>(Session::BY_USER, &key(user_id));
    sessions.sort_by_key(|session| (session.expires_at > now, session.last_used_at, session.id));
    let surplus = (sessions.len() + 1).saturating_sub(SESSIONS_PER_USER);
    for (position, session) in sessions.iter().enumerate() {
        if position < surplus || session.expires_at <= now {
            tx.delete::<Session>(&key(session.id));
        }
    }
}

/// The living session of a token.
pub(crate) fn find(view: &View, token_hash: &str, now: Timestamp) -> Option<Session> {
    let sessions = view.by_index::<Session>(Session::BY_TOKEN, token_hash);
    sessions.into_iter().find(|session| session.expires_at > now)
}

/// Writes down that a session is used.
pub(crate) fn touch(tx: &mut Tx<'_>, id: i64, lifetime: Lifetime) {
    let now = tx.now();
    if let Some(mut session) = tx.get::<Session>(&key(id))
        && is_stale(&session, now)
    {
        session.last_used_at = now;
        session.expires_at = lifetime.expiry(session.created_at, now);
        tx.put(&session);
    }
}

/// Whether the note of a session's last use is old.
pub(crate) fn is_stale(session: &Session, now: Timestamp) -> bool {
    now.duration_since(session.last_used_at) >= TOUCH_AFTER
}

/// Ends one session of the caller's.
pub(crate) fn end(tx: &mut Tx<'_>, caller: Caller, id: i64) -> Result<(), Refusal> {
    let user = caller.user(tx)?;
    tx.get::<Session>(&key(id))
        .filter(|session| session.user_id == user.id)
        .ok_or(Refusal::Unknown)?;
    tx.delete::<Session>(&key(id));
    Ok(())
}

/// Ends all sessions of the caller's but the one in use.
pub(crate) fn end_others(tx: &mut Tx<'_>, caller: Caller) -> Result<(), Refusal> {
    let user = caller.user(tx)?;
    end_all_but(tx, user.id, Some(caller.session_id));
    Ok(())
}

pub(super) fn end_all_but(tx: &mut Tx<'_>, user_id: i64, kept: Option<i64>) {
    for session in tx.by_index::<Session>(Session::BY_USER, &key(user_id)) {
        if Some(session.id) != kept {
            tx.delete::<Session>(&key(session.id));
        }
    }
}
