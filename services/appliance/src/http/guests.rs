use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Who is connected to a port, and who of them was quiet for the longest.
#[derive(Clone, Debug, Default)]
pub(super) struct Guests(Arc<Mutex<Places>>);

#[derive(Debug, Default)]
struct Places {
    /// Counts what was heard.
    turn: u64,
    taken: HashMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    heard: u64,
    leave: CancellationToken,
}

/// One connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    guests: Guests,
    id: u64,
    leave: CancellationToken,
}

impl Guests {
    pub(super) fn enter(&self) -> Guest {
        let leave = CancellationToken::new();
        let mut places = self.lock();
        places.turn += 1;
        let id = places.turn;
        places.taken.insert(id, Place { heard: id, leave: leave.clone() });
        drop(places);
        Guest { guests: self.clone(), id, leave }
    }

    pub(super) fn close_the_quietest(&self) {
        let mut places = self.lock();
        let quietest = places.taken.iter().min_by_key(|(_, place)| place.heard).map(|(id, _)| *id);
        if let Some(place) = quietest.and_then(|id| places.taken.remove(&id)) {
            place.leave.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// It was heard of just now.
    pub(super) fn asks(&self) {
        let mut places = self.guests.lock();
        places.turn += 1;
        let turn = places.turn;
        if let Some(place) = places.taken.get_mut(&self.id) {
            place.heard = turn;
        }
    }

    /// Ends when the place is needed for somebody else.
    pub(super) fn must_leave(&self) -> WaitForCancellationFuture<'_> {
        self.leave.cancelled()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.lock().taken.remove(&self.id);
    }
}
