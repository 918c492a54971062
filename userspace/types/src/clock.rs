//! Time as a value. Whoever needs the present takes a [`Clock`]; this crate never reads one.

/// One instant on both clocks: the wall's, for people, and the monotonic one, for order and
/// durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timestamp {
    /// Microseconds since 1970-01-01 UTC.
    pub unix_us: i64,
    /// Nanoseconds of `CLOCK_BOOTTIME`, comparable only within one boot.
    pub mono_ns: u64,
}

impl Timestamp {
    /// Microseconds from `earlier` to `self` on the monotonic clock; 0 if it is not earlier.
    pub fn us_since(self, earlier: Self) -> u64 {
        self.mono_ns.saturating_sub(earlier.mono_ns) / 1000
    }
}

/// Where the present comes from.
pub trait Clock: Send + Sync {
    /// The present.
    fn now(&self) -> Timestamp;
}

/// A time as people and programs read it (RFC 3339), to the second: `2026-12-01T08:00:00Z`.
pub fn utc(unix_us: i64) -> String {
    let seconds = unix_us.div_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days: eras of 400 years, and years
    // that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The microseconds since 1970 of a time in UTC, `2026-12-01` or `2026-12-01T08:00:00Z`; `None` where it is none.
pub fn from_utc(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let mut date = date.splitn(3, '-').map(digits);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':').map(digits);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // Howard Hinnant, as above, days_from_civil.
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let us = (days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000_000;
    // Whatever is no such time is read back as another.
    let read_back = utc(us);
    let is_it = read_back == text || read_back == format!("{text}T00:00:00Z");
    is_it.then_some(us)
}

/// A number of at most four digits.
fn digits(text: &str) -> Option<i64> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::{from_utc, utc};

    #[test]
    fn times_are_read_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_764_576_000, "2025-12-01T08:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(seconds * 1_000_000), text);
            assert_eq!(from_utc(text), Some(seconds * 1_000_000), "{text}");
        }
        assert_eq!(from_utc("2000-02-29"), Some(951_782_400_000_000));
        for no in [
            "2001-02-29",
            "2000-13-01",
            "2000-1-01",
            "2000-01-01T24:00:00Z",
            "2000-01-01T00:00:00",
            "x",
        ] {
            assert_eq!(from_utc(no), None, "{no}");
        }
    }
}
