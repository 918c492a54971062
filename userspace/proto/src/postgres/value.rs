//! Binary values of common types, written as the server writes them in text.
//!
//! PostgreSQL source: `src/backend/utils/adt/*send`/`*out`. What is not known here stays bytes.

use crate::reader::Reader;

/// OIDs of built-in types (`pg_type.dat`).
pub(super) mod oid {
    pub(in super::super) const BOOL: u32 = 16;
    pub(in super::super) const NAME: u32 = 19;
    pub(in super::super) const INT8: u32 = 20;
    pub(in super::super) const INT2: u32 = 21;
    pub(in super::super) const INT4: u32 = 23;
    pub(in super::super) const TEXT: u32 = 25;
    pub(in super::super) const OID: u32 = 26;
    pub(in super::super) const JSON: u32 = 114;
    pub(in super::super) const FLOAT4: u32 = 700;
    pub(in super::super) const FLOAT8: u32 = 701;
    pub(in super::super) const UNKNOWN: u32 = 705;
    pub(in super::super) const BPCHAR: u32 = 1042;
    pub(in super::super) const VARCHAR: u32 = 1043;
    pub(in super::super) const DATE: u32 = 1082;
    pub(in super::super) const TIMESTAMP: u32 = 1114;
    pub(in super::super) const TIMESTAMPTZ: u32 = 1184;
    pub(in super::super) const NUMERIC: u32 = 1700;
    pub(in super::super) const UUID: u32 = 2950;
    pub(in super::super) const JSONB: u32 = 3802;
    /// Arrays of bool, name, int2, int4, text, bpchar, varchar, int8, float4, float8, oid, timestamp, date,
    /// timestamptz, numeric and uuid.
    pub(in super::super) const ARRAYS: [u32; 16] = [
        1000, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, 1115, 1182, 1185, 1231,
        2951,
    ];
}

/// Days from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH_DAYS: i64 = 10_957;

/// The text of a binary value; `None` where the type or its form is not known.
pub(super) fn text(type_oid: u32, value: &[u8]) -> Option<String> {
    let mut reader = Reader::new(value);
    let text = match type_oid {
        oid::BOOL => if reader.u8()? == 0 { "f" } else { "t" }.to_owned(),
        oid::INT2 => reader.i16()?.to_string(),
        oid::INT4 => reader.i32()?.to_string(),
        oid::INT8 => reader.i64()?.to_string(),
        oid::OID => reader.u32()?.to_string(),
        oid::FLOAT4 => float(f64::from(f32::from_be_bytes(reader.array()?)), |_| {
            f32::from_be_bytes(value.try_into().unwrap_or_default()).to_string()
        }),
        oid::FLOAT8 => float(f64::from_be_bytes(reader.array()?), |value| value.to_string()),
        oid::NUMERIC => numeric(&mut reader)?,
        oid::UUID => uuid(reader.array()?),
        oid::DATE => date(reader.i32()?),
        oid::TIMESTAMP => timestamp(reader.i64()?, ""),
        oid::TIMESTAMPTZ => timestamp(reader.i64()?, "+00"),
        oid::JSONB => {
            if reader.u8()? != 1 {
                return None;
            }
            return String::from_utf8(reader.rest().to_vec()).ok();
        }
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::JSON | oid::UNKNOWN => {
            return String::from_utf8(value.to_vec()).ok();
        }
        _ => return None,
    };
    reader.is_empty().then_some(text)
}

/// Whether a binary value of this type is its text, so that it may be cut before it is read.
pub(super) fn is_textual(type_oid: u32) -> bool {
    matches!(
        type_oid,
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::JSON | oid::UNKNOWN | oid::JSONB
    )
}

/// The text of a binary array of one dimension of types whose values are known, as the server writes it; `None` for any
/// other. Of one that is longer than `most` bytes, the elements that fit, and no end.
pub(super) fn array(type_oid: u32, value: &[u8], most: usize) -> Option<String> {
    if !oid::ARRAYS.contains(&type_oid) {
        return None;
    }
    let mut reader = Reader::new(value);
    let (dimensions, _has_nulls, of) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if dimensions == 0 {
        return reader.is_empty().then(|| "{}".to_owned());
    }
    let (count, _first) = (reader.u32()?, reader.u32()?);
    if dimensions != 1 {
        return None;
    }
    let mut written = "{".to_owned();
    for at in 0..count {
        let element = match reader.i32()? {
            -1 => "NULL".to_owned(),
            length => quoted(text(of, reader.bytes(usize::try_from(length).ok()?)?)?),
        };
        if written.len() + element.len() + 2 > most {
            return Some(written);
        }
        written.push_str(&element);
        written.push(if at + 1 == count { '}' } else { ',' });
    }
    reader.is_empty().then_some(written)
}

/// An array's element (PostgreSQL documentation §8.15.6).
fn quoted(element: String) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !matches!(c, '{' | '}' | ',' | '"' | '\\');
    let is_null = element.eq_ignore_ascii_case("null");
    if !element.is_empty() && !is_null && element.chars().all(is_plain) {
        return element;
    }
    format!("\"{}\"", element.replace('\\', "\\\\").replace('"', "\\\""))
}

fn float(value: f64, finite: impl FnOnce(f64) -> String) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        finite(value)
    }
}

/// Base-10,000 digits: count, weight of the first, sign, digits after the point.
fn numeric(reader: &mut Reader<'_>) -> Option<String> {
    use std::fmt::Write as _;
    let count = reader.u16()?;
    let weight = i32::from(reader.i16()?);
    let sign = reader.u16()?;
    let scale = usize::from(reader.u16()?);
    match sign {
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        0 | 0x4000 => {}
        _ => return None,
    }
    // A weight of 32,767 would be 131,072 digits from eight bytes; the record has no use for them.
    if !(-256..=256).contains(&weight) || scale > 1024 || count > 512 {
        return None;
    }
    let digits: Vec<u16> = (0..count).map(|_| reader.u16()).collect::<Option<_>>()?;
    if digits.iter().any(|digit| *digit > 9_999) {
        return None;
    }
    let digit =
        |at: i32| usize::try_from(at).ok().and_then(|at| digits.get(at)).copied().unwrap_or(0);
    let mut text = String::new();
    if sign == 0x4000 {
        text.push('-');
    }
    if weight < 0 {
        text.push('0');
    }
    for at in 0..=weight {
        let _written =
            if at == 0 { write!(text, "{}", digit(at)) } else { write!(text, "{:04}", digit(at)) };
    }
    if scale > 0 {
        text.push('.');
        let whole = text.len();
        let mut at = weight + 1;
        while text.len() - whole < scale {
            let _written = write!(text, "{:04}", digit(at));
            at += 1;
        }
        text.truncate(whole + scale);
    }
    Some(text)
}

fn uuid(bytes: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let part = |range| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

fn date(days: i32) -> String {
    match days {
        i32::MAX => "infinity".to_owned(),
        i32::MIN => "-infinity".to_owned(),
        days => {
            let (day, bc) = civil(i64::from(days));
            format!("{day}{bc}")
        }
    }
}

fn timestamp(micros: i64, zone: &str) -> String {
    const DAY: i64 = 86_400_000_000;
    match micros {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let (day, bc) = civil(micros.div_euclid(DAY));
    let in_day = micros.rem_euclid(DAY);
    let (seconds, fraction) = (in_day / 1_000_000, in_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = if fraction == 0 {
        String::new()
    } else {
        format!(".{fraction:06}").trim_end_matches('0').to_owned()
    };
    format!("{day} {hour:02}:{minute:02}:{second:02}{fraction}{zone}{bc}")
}

/// Year, month and day of a day counted from 2000-01-01, in the proleptic Gregorian calendar,
/// counted in eras of 400 years (146,097 days) that begin on the first of March.
fn civil(days: i64) -> (String, &'static str) {
    let shifted = days + EPOCH_DAYS + 719_468;
    let era = shifted.div_euclid(146_097);
    let in_era = shifted.rem_euclid(146_097);
    let year_of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (year, bc) = if year <= 0 { (1 - year, " BC") } else { (year, "") };
    (format!("{year:04}-{month:02}-{day:02}"), bc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric_bytes(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Vec<u8> {
        let count = u16::try_from(digits.len()).unwrap();
        let head =
            [count.to_be_bytes(), weight.to_be_bytes(), sign.to_be_bytes(), scale.to_be_bytes()];
        let digits = digits.iter().flat_map(|digit| digit.to_be_bytes());
        head.into_iter().flatten().chain(digits).collect()
    }

    #[test]
    fn values_as_the_server_writes_them() {
        let stamp = 1_000_000 * 86_400 * 366 + 3_661 * 1_000_000 + 500_000_i64;
        for (oid, bytes, text) in [
            (oid::BOOL, vec![1], "t"),
            (oid::INT2, vec![0xff, 0xfe], "-2"),
            (oid::INT4, 70_000_i32.to_be_bytes().to_vec(), "70000"),
            (oid::INT8, (-5_i64).to_be_bytes().to_vec(), "-5"),
            (oid::FLOAT4, 1.5_f32.to_be_bytes().to_vec(), "1.5"),
            (oid::FLOAT8, 0.1_f64.to_be_bytes().to_vec(), "0.1"),
            (oid::FLOAT8, f64::NAN.to_be_bytes().to_vec(), "NaN"),
            (oid::NUMERIC, numeric_bytes(0, 0, 2, &[12, 3400]), "12.34"),
            (oid::NUMERIC, numeric_bytes(1, 0x4000, 0, &[1, 5]), "-10005"),
            (oid::NUMERIC, numeric_bytes(-1, 0, 3, &[50]), "0.005"),
            (oid::NUMERIC, numeric_bytes(1, 0, 1, &[2]), "20000.0"),
            (oid::NUMERIC, numeric_bytes(0, 0xC000, 0, &[]), "NaN"),
            (oid::UUID, (1..=16).collect(), "01020304-0506-0708-090a-0b0c0d0e0f10"),
            (oid::DATE, 0_i32.to_be_bytes().to_vec(), "2000-01-01"),
            (oid::DATE, 59_i32.to_be_bytes().to_vec(), "2000-02-29"),
            (oid::DATE, (-1_i32).to_be_bytes().to_vec(), "1999-12-31"),
            (oid::DATE, i32::MAX.to_be_bytes().to_vec(), "infinity"),
            (oid::TIMESTAMP, stamp.to_be_bytes().to_vec(), "2001-01-01 01:01:01.5"),
            (oid::TIMESTAMPTZ, 0_i64.to_be_bytes().to_vec(), "2000-01-01 00:00:00+00"),
            (oid::JSONB, b"\x01{}".to_vec(), "{}"),
            (oid::TEXT, b"x".to_vec(), "x"),
        ] {
            assert_eq!(super::text(oid, &bytes).as_deref(), Some(text), "{oid}");
        }
    }

    #[test]
    fn arrays_are_written_as_the_server_does() {
        let array = |of: u32, elements: &[Option<&[u8]>]| {
            let count = u32::try_from(elements.len()).unwrap();
            let mut bytes: Vec<u8> =
                [1, 1, of, count, 1].iter().flat_map(|n: &u32| n.to_be_bytes()).collect();
            for element in elements {
                let length = element.map_or(-1, |one| i32::try_from(one.len()).unwrap());
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(element.unwrap_or_default());
            }
            bytes
        };
        let numbers = array(oid::INT4, &[Some(&[0, 0, 0, 7]), None, Some(&[0, 0, 1, 0])]);
        assert_eq!(super::array(1007, &numbers, 100).as_deref(), Some("{7,NULL,256}"));
        assert_eq!(super::array(1007, &numbers, 9).as_deref(), Some("{7,NULL,"));
        let texts =
            array(oid::TEXT, &[Some(b"a b"), Some(b""), Some(b"null"), Some(b"\"\\"), Some(b"c")]);
        assert_eq!(
            super::array(1009, &texts, 100).as_deref(),
            Some(r#"{"a b","","null","\"\\",c}"#)
        );
        assert_eq!(super::array(1007, &[0; 12], 100).as_deref(), Some("{}"));
        assert_eq!(super::array(oid::INT4, &numbers, 100), None);
        for cut in 0..numbers.len() {
            assert_eq!(super::array(1007, &numbers[..cut], 100), None, "{cut}");
        }
    }

    #[test]
    fn what_is_malformed_stays_bytes() {
        assert_eq!(text(oid::INT4, &[1]), None);
        assert_eq!(text(oid::INT2, &[1, 2, 3]), None);
        assert_eq!(text(oid::NUMERIC, &numeric_bytes(32_000, 0, 0, &[1])), None);
        assert_eq!(text(oid::JSONB, b"\x02{}"), None);
        assert_eq!(text(oid::TEXT, b"\xff"), None);
        assert_eq!(text(17, b"abc"), None);
        let _any = text(oid::TIMESTAMP, &(i64::MIN + 1).to_be_bytes());
    }
}
