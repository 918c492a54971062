//! Instants for people: in UTC, with how far away they are.

use askama::filters::HtmlSafe;
use std::fmt;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// An instant on a page: UTC, and a hint how long ago it was or how far away it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct When {
    at_us: i64,
    now_us: i64,
}

impl HtmlSafe for When {}

impl When {
    /// An instant as it is seen at `now_us`; both in microseconds since 1970 UTC.
    pub(crate) fn new(at_us: i64, now_us: i64) -> Self {
        Self { at_us, now_us }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_us, now_us } = *self;
        let (machine, people) = (rfc3339(at_us), utc(at_us));
        write!(f, "<time datetime=\"{machine}\">{people} UTC</time> <span class=\"hint\">(")?;
        write!(f, "{})</span>", away(at_us, now_us))
    }
}

/// An instant as RFC 3339 has it, to the millisecond.
pub(crate) fn rfc3339(at_us: i64) -> String {
    let at = instant(at_us);
    at.replace_millisecond(at.millisecond()).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// An instant for people, to the second.
pub(crate) fn utc(at_us: i64) -> String {
    let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    instant(at_us).format(form).unwrap_or_default()
}

/// An instant as a form's field has it, `2026-12-01T08:15`; `None` if it is none.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim().trim_end_matches('Z');
    let minutes = format_description!("[year]-[month]-[day]T[hour]:[minute]");
    let seconds = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let parsed = time::PrimitiveDateTime::parse(text, minutes);
    let parsed = parsed.or_else(|_| time::PrimitiveDateTime::parse(text, seconds)).ok()?;
    parsed.assume_utc().unix_timestamp().checked_mul(1_000_000)
}

/// An instant as a form's field takes it.
pub(crate) fn field(at_us: i64) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]");
    instant(at_us).format(form).unwrap_or_default()
}

/// How far away an instant is: `in 4 min`, `3 h ago`.
pub(crate) fn away(at_us: i64, now_us: i64) -> String {
    // Whole seconds: nobody reads a page to the millisecond.
    let s = at_us.abs_diff(now_us) / 1_000_000;
    let apart = if s < 10 { format!("{s} s") } else { span(s * 1_000_000) };
    match at_us.cmp(&now_us) {
        std::cmp::Ordering::Greater => format!("in {apart}"),
        _ => format!("{apart} ago"),
    }
}

/// A duration for people: two units below an hour, one above.
pub(crate) fn span(us: u64) -> String {
    let (ms, s) = (us / 1_000, us / 1_000_000);
    match s {
        0 if us < 10_000 => format!("{us} µs"),
        0..10 => format!("{ms} ms"),
        10..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

fn instant(at_us: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_us) * 1_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_in_utc() {
        let at = 1_796_112_930_123_456;
        assert_eq!(rfc3339(at), "2026-12-01T08:15:30.123Z");
        assert_eq!(utc(at), "2026-12-01 08:15:30");
        assert_eq!(parse(&field(at)), Some(1_796_112_900_000_000));
        assert_eq!(parse("2026-12-01T08:15:30"), Some(1_796_112_930_000_000));
        for wrong in ["", "yesterday", "2026-13-01T00:00", "9999999-01-01T00:00"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(rfc3339(i64::MAX), "1970-01-01T00:00:00Z", "of no year that is written");
    }

    #[test]
    fn hints_say_how_far_away_it_is() {
        for (us, hint) in [
            (9_000, "9000 µs"),
            (12_000, "12 ms"),
            (9_999_000, "9999 ms"),
            (60_000_000, "60 s"),
            (240_000_000, "4 min"),
            (10_800_000_000, "3 h"),
            (259_200_000_000, "3 days"),
        ] {
            assert_eq!(span(us), hint);
        }
        assert_eq!(away(240_000_000, 0), "in 4 min");
        assert_eq!(away(0, 240_000_000), "4 min ago");
        assert_eq!(away(0, 3_752_000), "3 s ago");
    }
}
