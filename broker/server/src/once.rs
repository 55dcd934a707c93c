//! Requests that name a thing more than once.

use std::collections::HashSet;
use std::hash::Hash;

/// The items whose key comes for the first time, in their order. An answer that tells of each
/// thing once is no larger than what is told of, however often a request names it.
pub(crate) fn once<T, K: Eq + Hash>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Vec<T> {
    let mut seen = HashSet::new();
    items.into_iter().filter(|item| seen.insert(key(item))).collect()
}
