//! How often something may be done: token buckets in a bounded table.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use types::clock::Timestamp;

/// Whoever is counted at once: each about 100 B. Beyond that, who has rested longest goes.
const COUNTED_MAX: usize = 8_192;

/// How often: so many at once, and as many again in each minute.
#[derive(Debug)]
pub(crate) struct Rate<K> {
    per_minute: u32,
    buckets: Mutex<HashMap<K, Bucket>>,
}

/// What is left of a minute's share.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left_us: u64,
    at: Timestamp,
}

const MINUTE_US: u64 = 60_000_000;

impl<K: Eq + Hash + Clone> Rate<K> {
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute, buckets: Mutex::default() }
    }

    /// Takes one; seconds to wait where none is left.
    pub(crate) fn take(&self, who: &K, now: Timestamp) -> Result<(), u64> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(who) && buckets.len() >= COUNTED_MAX {
            make_room(&mut buckets, now);
        }
        // A full bucket holds a minute; each one taken costs its share of that.
        let cost_us = MINUTE_US / u64::from(self.per_minute.max(1));
        let bucket = buckets.entry(who.clone()).or_insert(Bucket { left_us: MINUTE_US, at: now });
        bucket.left_us = bucket.left_us.saturating_add(now.us_since(bucket.at)).min(MINUTE_US);
        bucket.at = now;
        match bucket.left_us.checked_sub(cost_us) {
            Some(left_us) => {
                bucket.left_us = left_us;
                Ok(())
            }
            None => Err((cost_us - bucket.left_us).div_ceil(1_000_000).max(1)),
        }
    }
}

/// Forgets who has a whole share again, or else who has rested longest.
fn make_room<K: Eq + Hash + Clone>(buckets: &mut HashMap<K, Bucket>, now: Timestamp) {
    buckets.retain(|_, one| one.left_us.saturating_add(now.us_since(one.at)) < MINUTE_US);
    if buckets.len() < COUNTED_MAX {
        return;
    }
    let oldest = buckets.iter().min_by_key(|(_, one)| one.at.mono_ns).map(|(who, _)| who.clone());
    if let Some(oldest) = oldest {
        buckets.remove(&oldest);
    }
}

/// Whom an address stands for: of IPv6, the network of whoever has it (RFC 6177).
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp { mono_ns: seconds * 1_000_000_000, unix_us: 0 }
    }

    #[test]
    fn a_minutes_share_is_had_at_once_and_comes_back_in_a_minute() {
        let rate = Rate::new(6);
        for _ in 0..6 {
            assert_eq!(rate.take(&"a", at(0)), Ok(()));
        }
        assert_eq!(rate.take(&"a", at(0)), Err(10));
        assert_eq!(rate.take(&"a", at(3)), Err(7));
        assert_eq!(rate.take(&"b", at(3)), Ok(()), "others are not held up");
        assert_eq!(rate.take(&"a", at(10)), Ok(()));
        assert_eq!(rate.take(&"a", at(10)), Err(10));
    }

    #[test]
    fn the_table_is_bounded() {
        let rate = Rate::new(1);
        for who in 0..COUNTED_MAX + 100 {
            assert_eq!(rate.take(&who, at(0)), Ok(()));
        }
        assert!(rate.buckets.lock().unwrap().len() <= COUNTED_MAX);
        rate.take(&usize::MAX, at(60)).unwrap();
        assert_eq!(rate.buckets.lock().unwrap().len(), 1, "who has a whole share is not counted");
    }

    #[test]
    fn a_network_of_ipv6_is_one() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:10.1.2.3"), "10.1.2.3");
        assert_eq!(of("10.1.2.3"), "10.1.2.3");
    }
}
