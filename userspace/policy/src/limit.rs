//! `@limit("rows=1000, bytes=16MiB, time=30s, rows=100000/1h")`: how its terms are read.
//!
//! `@record("64KiB")` as well.
//!
//! What is not understood refuses the whole policy set: a limit that is not kept is none.

use std::sync::Arc;

use types::decision::{Keep, Limit, Measure};
use types::id::PolicyId;
use types::limits::RESPONSE_RECORD_BYTES_MAX;

/// Terms of one policy: three measures, by statement and by three windows.
const TERMS_MAX: usize = 12;

/// The longest window: its slices are 2 hours each.
const WINDOW_S_MAX: u64 = 24 * 60 * 60;

/// The longest time: a statement of more than a day is one that is left alone.
const TIME_US_MAX: u64 = 24 * 60 * 60 * 1_000_000;

/// More than a PostgreSQL server can hold: 2^53, which every program that reads records can count to.
const COUNT_MAX: u64 = 1 << 53;

/// The limits that `policy` sets; the error says what is wrong with its annotation.
pub(crate) fn read(policy: &Arc<str>, text: &str) -> Result<Box<[Limit]>, String> {
    let mut limits: Vec<Limit> = Vec::new();
    for term in text.split(',') {
        let limit = read_term(policy, term.trim()).ok_or_else(|| {
            format!(
                "@limit: {:?} is not like rows=1000, bytes=16MiB, time=30s, rows=5000/1h",
                term.trim()
            )
        })?;
        let same =
            |other: &Limit| (other.measure, other.window_s) == (limit.measure, limit.window_s);
        if limits.iter().any(same) {
            return Err(format!("@limit has {} twice", limit.measure.as_str()));
        }
        limits.push(limit);
    }
    if limits.len() > TERMS_MAX {
        return Err(format!("@limit has more than {TERMS_MAX} terms"));
    }
    Ok(limits.into())
}

/// How much of a response is recorded.
pub(crate) fn read_record(text: &str) -> Result<Keep, String> {
    match text {
        "full" => return Ok(Keep::Full),
        "digest" => return Ok(Keep::Digest),
        _ => {}
    }
    let most = RESPONSE_RECORD_BYTES_MAX as u64;
    let read = bytes(text).filter(|count| (1..=most).contains(count));
    read.and_then(|count| u32::try_from(count).ok()).map(Keep::Head).ok_or_else(|| {
        format!("@record: {text:?} is not 1 to {most} bytes, like 64KiB, nor `full` or `digest`")
    })
}

fn read_term(policy: &Arc<str>, term: &str) -> Option<Limit> {
    let (measure, rest) = term.split_once('=')?;
    let (most, window) = match rest.split_once('/') {
        Some((most, window)) => (most, Some(window)),
        None => (rest, None),
    };
    let (measure, most) = match measure {
        "rows" => (Measure::Rows, number(most)?),
        "bytes" => (Measure::Bytes, bytes(most)?),
        "time" => (Measure::Time, microseconds(most).filter(|us| *us <= TIME_US_MAX)?),
        _ => return None,
    };
    let window_s = match window.map(microseconds) {
        None => None,
        Some(us) => {
            let seconds = us.filter(|us| us % 1_000_000 == 0)? / 1_000_000;
            Some(u32::try_from(seconds).ok().filter(|_| (1..=WINDOW_S_MAX).contains(&seconds))?)
        }
    };
    (1..=COUNT_MAX).contains(&most).then(|| Limit {
        policy: PolicyId(Arc::clone(policy)),
        measure,
        most,
        window_s,
    })
}

/// A number without sign and superfluous zeros.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}

/// A span of whole seconds, such as `90s`, `10m`, `1h`.
pub(crate) fn seconds(text: &str) -> Option<u32> {
    let us = microseconds(text).filter(|us| us % 1_000_000 == 0)?;
    u32::try_from(us / 1_000_000).ok()
}

fn bytes(text: &str) -> Option<u64> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let found = units.iter().find_map(|(unit, each)| Some((text.strip_suffix(unit)?, *each)));
    let (count, each) = found.unwrap_or((text, 1));
    number(count)?.checked_mul(each)
}

fn microseconds(text: &str) -> Option<u64> {
    let units = [("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];
    let (count, each) =
        units.iter().find_map(|(unit, each)| Some((text.strip_suffix(unit)?, *each)))?;
    number(count)?.checked_mul(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_or_refused() {
        let policy: Arc<str> = "p".into();
        let text = "rows=1000, bytes=16MiB,time=30s, rows=5000/1h, time=90s/10m, bytes=7";
        let read_back = |text: &str| {
            read(&policy, text)
                .map(|limits| limits.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert!(read_back(text).unwrap_err().contains("bytes twice"));
        assert_eq!(
            read_back("rows=1000, bytes=16MiB,time=30s, rows=5000/1h, time=90s/10m").unwrap(),
            ["rows=1000", "bytes=16777216", "time=30000ms", "rows=5000/3600s", "time=90000ms/600s"]
        );
        for wrong in [
            "",
            "rows",
            "rows=",
            "rows=0",
            "rows=-1",
            "rows=+1",
            "rows=01",
            "rows=1k",
            "rows=1 000",
            "rows=1/0s",
            "rows=1/25h",
            "rows=1/500ms",
            "rows=1/h",
            "rows=1/1h/1h",
            "time=5",
            "time=25h",
            "bytes=1MB",
            "bytes=18446744073709551615GiB",
            "rows=9007199254740993",
            "columns=3",
            "rows=1,",
            "Rows=1",
            "rows=1;bytes=2",
        ] {
            assert!(read(&policy, wrong).is_err(), "{wrong}");
        }
    }
}
