//! How many wrong passwords are too many, and how many registrations: those are counted as failures by a throttle of
//! their own, in which a pair is a network alone.
//!
//! Only failures cost; each drains a bucket that fills again by itself, so nobody is locked out for
//! longer than one refill. One bucket belongs to an account as seen from one network, so a stranger
//! elsewhere cannot slow its owner down; one belongs to everybody, and a pair that has logged in
//! before is exempt from that. Memory is bounded: when full, the pair that was quiet for longest
//! is forgotten.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    time::Duration,
};

/// The sizes of the buckets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Failures in a row that one account may have from one network.
    pub pair_burst: u32,
    /// Until one more failure is allowed to it.
    pub pair_refill: Duration,
    /// Failures in a row over all accounts and networks.
    pub global_burst: u32,
    /// Until one more failure is allowed to all.
    pub global_refill: Duration,
    /// Pairs remembered.
    pub pairs: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            pair_burst: 10,
            pair_refill: Duration::from_secs(20),
            global_burst: 200,
            global_refill: Duration::from_millis(200),
            pairs: 10_000,
        }
    }
}

impl Limits {
    /// Each costs a hash and a mail, and tells whether an address is taken. A network may be a whole office or what
    /// stands before the HTTP port, and a team registers at once.
    pub(crate) const REGISTRATIONS: Limits = Limits {
        pair_burst: 200,
        pair_refill: Duration::from_secs(10),
        global_burst: 500,
        global_refill: Duration::from_secs(2),
        pairs: 10_000,
    };
}

/// An account as seen from one network (IPv4 /24, IPv6 /64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pair(u64);

/// Counts failures. `now` is the time since any fixed moment; a clock set back costs nobody more
/// than one refill.
#[derive(Debug)]
pub(crate) struct Throttle {
    limits: Limits,
    hasher: RandomState,
    pairs: HashMap<Pair, Known>,
    global: Bucket,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    bucket: Bucket,
    /// Has logged in with the right password.
    trusted: bool,
    seen: Duration,
}

/// A bucket is described by the time at which it will be full again.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// How long until one more failure fits, zero if it fits now.
    fn wait(self, now: Duration, burst: u32, refill: Duration) -> Duration {
        let whole = refill.saturating_mul(burst.max(1));
        let missing = self.full_at.saturating_sub(now).min(whole);
        missing.saturating_sub(whole.saturating_sub(refill))
    }

    fn drain(&mut self, now: Duration, burst: u32, refill: Duration) {
        let most = now.saturating_add(refill.saturating_mul(burst.max(1)));
        self.full_at = self.full_at.max(now).saturating_add(refill).min(most);
    }
}

impl Throttle {
    pub(crate) fn new(limits: Limits) -> Throttle {
        Throttle {
            limits,
            hasher: RandomState::new(),
            pairs: HashMap::new(),
            global: Bucket { full_at: Duration::ZERO },
        }
    }

    /// The pair of an account (its name as folded, or its id) and the address it is used from.
    pub(crate) fn pair(&self, account: &str, address: Option<IpAddr>) -> Pair {
        Pair(self.hasher.hash_one((account, address.map(network))))
    }

    /// `Err` says how long to wait before a password is looked at.
    pub(crate) fn check(&self, now: Duration, pair: Pair) -> Result<(), Duration> {
        let limits = &self.limits;
        let known = self.pairs.get(&pair);
        let own = known
            .map_or(Duration::ZERO, |k| k.bucket.wait(now, limits.pair_burst, limits.pair_refill));
        let trusted = known.is_some_and(|k| k.trusted);
        let all = if trusted {
            Duration::ZERO
        } else {
            self.global.wait(now, limits.global_burst, limits.global_refill)
        };
        match own.max(all) {
            Duration::ZERO => Ok(()),
            wait => Err(wait),
        }
    }

    /// A wrong password.
    pub(crate) fn failed(&mut self, now: Duration, pair: Pair) {
        let limits = self.limits;
        self.global.drain(now, limits.global_burst, limits.global_refill);
        let known = self.known(now, pair);
        known.bucket.drain(now, limits.pair_burst, limits.pair_refill);
        known.seen = now;
    }

    /// The right password: the pair starts anew.
    pub(crate) fn succeeded(&mut self, now: Duration, pair: Pair) {
        *self.known(now, pair) =
            Known { bucket: Bucket { full_at: Duration::ZERO }, trusted: true, seen: now };
    }

    fn known(&mut self, now: Duration, pair: Pair) -> &mut Known {
        if self.pairs.len() >= self.limits.pairs && !self.pairs.contains_key(&pair) {
            self.forget(now);
        }
        self.pairs.entry(pair).or_insert(Known {
            bucket: Bucket { full_at: Duration::ZERO },
            trusted: false,
            seen: now,
        })
    }

    /// Makes room: all that say nothing any more, else the one that was quiet for longest, the
    /// untrusted first.
    fn forget(&mut self, now: Duration) {
        self.pairs.retain(|_, known| known.trusted || known.bucket.full_at > now);
        if self.pairs.len() < self.limits.pairs {
            return;
        }
        let oldest = self.pairs.iter().min_by_key(|(_, known)| (known.trusted, known.seen));
        if let Some(pair) = oldest.map(|(pair, _)| *pair) {
            self.pairs.remove(&pair);
        }
    }
}

fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_bits() >> 8),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const HOME: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    const AWAY: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)));
    const T: Duration = Duration::from_secs(1000);

    fn fail(throttle: &mut Throttle, pair: Pair, times: u32) {
        for _ in 0..times {
            throttle.failed(T, pair);
        }
    }

    #[test]
    fn the_eleventh_wrong_password_waits_for_one_refill_only() {
        let mut throttle = Throttle::new(Limits::default());
        let pair = throttle.pair("anna", HOME);
        fail(&mut throttle, pair, 9);
        assert_eq!(throttle.check(T, pair), Ok(()));
        fail(&mut throttle, pair, 1);
        let wait = throttle.check(T, pair).unwrap_err();
        assert_eq!(wait, Duration::from_secs(20));
        assert_eq!(throttle.check(T + wait, pair), Ok(()));
        fail(&mut throttle, pair, 1000);
        assert!(throttle.check(T, pair).unwrap_err() <= Duration::from_secs(20));
    }

    #[test]
    fn a_clock_set_back_does_not_lock_anyone_out() {
        let mut throttle = Throttle::new(Limits::default());
        let pair = throttle.pair("anna", HOME);
        fail(&mut throttle, pair, 20);
        assert!(throttle.check(T / 2, pair).unwrap_err() <= Duration::from_secs(20));
    }

    #[test]
    fn a_stranger_elsewhere_does_not_slow_the_owner() {
        let mut throttle = Throttle::new(Limits::default());
        let (owner, stranger) = (throttle.pair("anna", HOME), throttle.pair("anna", AWAY));
        fail(&mut throttle, stranger, 50);
        assert!(throttle.check(T, stranger).is_err());
        assert_eq!(throttle.check(T, owner), Ok(()));
    }

    #[test]
    fn many_accounts_from_many_places_are_slowed_together_but_not_who_was_here_before() {
        let mut throttle = Throttle::new(Limits::default());
        let owner = throttle.pair("anna", HOME);
        throttle.succeeded(T, owner);
        for i in 0..200_u32 {
            let pair = throttle.pair(&i.to_string(), AWAY);
            throttle.failed(T, pair);
        }
        let newcomer = throttle.pair("berta", HOME);
        assert!(throttle.check(T, newcomer).unwrap_err() <= Duration::from_millis(200));
        assert_eq!(throttle.check(T, owner), Ok(()));
    }

    #[test]
    fn a_right_password_starts_anew() {
        let mut throttle = Throttle::new(Limits::default());
        let pair = throttle.pair("anna", HOME);
        fail(&mut throttle, pair, 9);
        throttle.succeeded(T, pair);
        fail(&mut throttle, pair, 9);
        assert_eq!(throttle.check(T, pair), Ok(()));
    }

    #[test]
    fn any_number_of_right_passwords_passes() {
        let mut throttle = Throttle::new(Limits::default());
        let pair = throttle.pair("anna", HOME);
        for _ in 0..1000 {
            assert_eq!(throttle.check(T, pair), Ok(()));
            throttle.succeeded(T, pair);
        }
    }

    #[test]
    fn memory_is_bounded_and_the_trusted_stay() {
        let limits = Limits { pairs: 100, ..Limits::default() };
        let mut throttle = Throttle::new(limits);
        let owner = throttle.pair("anna", HOME);
        throttle.succeeded(T, owner);
        for i in 0..5000_u32 {
            let pair = throttle.pair(&i.to_string(), AWAY);
            throttle.failed(T, pair);
        }
        assert_eq!(throttle.pairs.len(), 100);
        assert!(throttle.pairs.contains_key(&owner));
    }

    #[test]
    fn a_network_is_one_address_to_us() {
        let throttle = Throttle::new(Limits::default());
        let near = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200)));
        assert_eq!(throttle.pair("anna", HOME), throttle.pair("anna", near));
        assert_ne!(throttle.pair("anna", HOME), throttle.pair("anna", AWAY));
        assert_ne!(throttle.pair("anna", HOME), throttle.pair("berta", HOME));
        let six = |last| Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last)));
        assert_eq!(throttle.pair("anna", six(1)), throttle.pair("anna", six(2)));
        let mapped = Some(IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped()));
        assert_eq!(throttle.pair("anna", HOME), throttle.pair("anna", mapped));
    }
}
