//! What happens beside requests: errands that nobody waits for, and the sweeping of what expired.

pub(crate) mod hasher;

use std::time::Duration;

use kit::{Commit, CommitError, Tx};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    model::token::Token,
    store::{Refusal, expired, passwords, sessions},
};

/// Errands that may wait.
pub(crate) const ERRANDS: usize = 1024;
const SWEEP_EVERY: Duration = Duration::from_mins(10);

/// A command whose outcome the person who caused it is not told.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Note that a session is in use.
    Touch { session_id: i64 },
    /// Mail a way back in, if the address belongs to an account.
    OfferReset { email: String },
}

/// Runs errands one by one and sweeps now and then, until told to stop.
pub(crate) async fn run(
    commit: Commit,
    lifetime: sessions::Lifetime,
    mut errands: mpsc::Receiver<Errand>,
    stop: CancellationToken,
) {
    let mut sweeping = tokio::time::interval(SWEEP_EVERY);
    sweeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = sweeping.tick() => sweep(&commit).await,
            errand = errands.recv() => match errand {
                Some(Errand::Touch { session_id: id }) => {
                    let touch = move |tx: &mut Tx<'_>| {
                        sessions::touch(tx, id, lifetime);
                        Ok(())
                    };
                    log(commit.run(touch).await);
                }
                Some(Errand::OfferReset { email }) => offer_reset(&commit, email).await,
                None => return,
            },
        }
    }
}

/// Another instance sweeps when this one is on standby.
async fn sweep(commit: &Commit) {
    let sweep = |tx: &mut Tx<'_>| {
        expired::sweep(tx);
        Ok(())
    };
    let ready = commit.status().borrow().is_ready();
    if ready {
        log(commit.run(sweep).await);
    }
}

async fn offer_reset(commit: &Commit, email: String) {
    match Token::draw() {
        Ok(token) => log(commit
            .run(move |tx| match passwords::offer_reset(tx, &email, &token) {
                Err(Refusal::Unknown) => Ok(()),
                outcome => outcome,
            })
            .await),
        Err(error) => tracing::error!(%error, "no randomness for a reset token"),
    }
}

fn log(outcome: Result<(), CommitError<Refusal>>) {
    if let Err(error) = outcome {
        tracing::warn!(?error, "an errand was not carried out");
    }
}
