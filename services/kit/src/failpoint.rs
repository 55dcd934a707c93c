//! Places where a test may kill the process. Without the cargo feature `failpoints` they are nothing.

/// Marks such a place: `kit::failpoint!("commit")`.
#[macro_export]
macro_rules! failpoint {
    ($place:literal) => {
        $crate::failpoint::hit($place)
    };
}

/// Ends the process as SIGKILL would if `OTTLA_FAILPOINTS` names this place: `commit=kill`, or `commit=kill@3` for its
/// third passing. Places: `produce`, `commit`, `view`, `answer`, `smtp250`.
#[cfg(feature = "failpoints")]
pub fn hit(place: &str) {
    use std::{
        collections::HashMap,
        sync::{LazyLock, Mutex, PoisonError},
    };

    static LEFT: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(|| {
        let text = std::env::var("OTTLA_FAILPOINTS").unwrap_or_default();
        let armed = text.split(',').filter_map(|item| {
            let (place, action) = item.split_once('=')?;
            let passing = match action.strip_prefix("kill")? {
                "" => 1,
                rest => rest.strip_prefix('@')?.parse().ok()?,
            };
            Some((place.to_owned(), passing))
        });
        Mutex::new(armed.collect())
    });
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(passing) = left.get_mut(place) {
        *passing -= 1;
        if *passing == 0 {
            // An abort skips every destructor and flush, as a kill does.
            std::process::abort();
        }
    }
}

/// Nothing: the cargo feature `failpoints` is off.
#[cfg(not(feature = "failpoints"))]
pub fn hit(_place: &str) {}
