//! Stand-ins for values of types that hold no text: one value for each type, whatever it stands for.
//!
//! They let a masked copy keep to `NOT NULL`. Forms are the server's (PostgreSQL documentation, chapter 8; source,
//! `*_send`); where the session's settings write a type otherwise and that can't be told from the value, there
//! is none.

use types::redact::Format;

/// Appends the stand-in for a value of a type; false, with nothing appended, where none is known.
pub(super) fn put(type_oid: u32, format: Format, value: &[u8], out: &mut Vec<u8>) -> bool {
    let found = match format {
        Format::Text => text(type_oid, value).map(str::as_bytes),
        Format::Binary => {
            if let Some(element) = array_of(type_oid, value) {
                // No dimensions, no NULL, the type of its elements.
                out.extend_from_slice(&[0; 8]);
                out.extend_from_slice(element);
                return true;
            }
            binary(type_oid)
        }
    };
    out.extend_from_slice(found.unwrap_or_default());
    found.is_some()
}

/// Appends a number of a type that a hash makes, so that different values stay different; false, with nothing
/// appended, where the type has no room for one.
pub(super) fn put_number(
    type_oid: u32,
    modifier: i32,
    format: Format,
    hash: u64,
    out: &mut Vec<u8>,
) -> bool {
    let number = match type_oid {
        INT2 => hash % 0x8000,
        INT4 => hash % 0x8000_0000,
        INT8 => hash % 0x8000_0000_0000_0000,
        NUMERIC => match whole_digits(modifier) {
            0 => return false,
            digits => hash % 10_u64.pow(digits),
        },
        _ => return false,
    };
    let bytes = number.to_be_bytes();
    match (type_oid, format, &bytes) {
        (_, Format::Text, _) => out.extend_from_slice(number.to_string().as_bytes()),
        (INT8, ..) => out.extend_from_slice(&bytes),
        (INT4, _, [_, _, _, _, low @ ..]) => out.extend_from_slice(low),
        (INT2, _, [_, _, _, _, _, _, low @ ..]) => out.extend_from_slice(low),
        _ => put_numeric(number, out),
    }
    true
}

/// The digits that a `numeric` of a modifier may have before its point; at most those of a number here.
fn whole_digits(modifier: i32) -> u32 {
    const MOST: u32 = 15;
    let Some(packed) = modifier.checked_sub(4).and_then(|packed| u32::try_from(packed).ok()) else {
        return MOST;
    };
    // Since 15 a scale may be negative, and has 11 bits.
    let (precision, scale) = (packed >> 16, packed & 0x7ff);
    if scale >= 0x400 { 0 } else { precision.saturating_sub(scale).min(MOST) }
}

/// A whole number as `numeric_send` writes one: count, weight, sign, scale, digits of base 10,000.
fn put_numeric(number: u64, out: &mut Vec<u8>) {
    let digits = [1_000_000_000_000, 100_000_000, 10_000, 1].map(|unit| number / unit % 10_000);
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let count = digits.len() - zeros;
    let head = [count, count.saturating_sub(1), 0, 0];
    let head = head.iter().map(|part| u16::try_from(*part).unwrap_or_default());
    let digits = digits.iter().skip(zeros).map(|digit| u16::try_from(*digit).unwrap_or_default());
    out.extend(head.chain(digits).flat_map(u16::to_be_bytes));
}

fn text(type_oid: u32, value: &[u8]) -> Option<&'static str> {
    // Years are written first, or the day is: 1970-01-01 is the same but for the order.
    let is_iso = value.get(4) == Some(&b'-');
    Some(match type_oid {
        BOOL => "f",
        CHAR => "*",
        INT2 | INT4 | INT8 | OID | FLOAT4 | FLOAT8 | NUMERIC => "0",
        UUID => "00000000-0000-0000-0000-000000000000",
        DATE if is_iso => "1970-01-01",
        DATE => match value.get(2)? {
            b'.' => "01.01.1970",
            b'/' => "01/01/1970",
            b'-' => "01-01-1970",
            _ => return None,
        },
        TIMETZ => "00:00:00+00",
        TIMESTAMP if is_iso => "1970-01-01 00:00:00",
        TIMESTAMPTZ if is_iso => "1970-01-01 00:00:00+00",
        INTERVAL if value.first() == Some(&b'P') => "PT0S",
        TIME | INTERVAL => "00:00:00",
        INET => "0.0.0.0",
        _ if RANGES.contains(&type_oid) => "empty",
        _ if ARRAYS.contains(&type_oid) => "{}",
        _ => return None,
    })
}

fn binary(type_oid: u32) -> Option<&'static [u8]> {
    const ZEROS: [u8; 16] = [0; 16];
    let zeros = |count: usize| ZEROS.get(..count);
    match type_oid {
        BOOL => zeros(1),
        CHAR => Some(b"*"),
        INT2 => zeros(2),
        INT4 | OID | FLOAT4 => zeros(4),
        // No digits: a numeric of 0.
        INT8 | FLOAT8 | TIME | NUMERIC => zeros(8),
        TIMETZ => zeros(12),
        UUID | INTERVAL => zeros(16),
        // Days, and microseconds, from 2000-01-01 to 1970-01-01.
        DATE => Some(&[0xff, 0xff, 0xd5, 0x33]),
        TIMESTAMP | TIMESTAMPTZ => Some(&[0xff, 0xfc, 0xa2, 0xfe, 0xc4, 0xc8, 0x20, 0]),
        // Family, bits, whether a network, bytes.
        INET => Some(&[2, 32, 0, 4, 0, 0, 0, 0]),
        _ if RANGES.contains(&type_oid) => Some(&[1]),
        _ => None,
    }
}

/// The OID of the elements of a binary array, as it stands in it.
fn array_of(type_oid: u32, value: &[u8]) -> Option<&[u8]> {
    value.get(8..12).filter(|_| ARRAYS.contains(&type_oid))
}

// OIDs of `pg_type.dat`.
const BOOL: u32 = 16;
const CHAR: u32 = 18;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const OID: u32 = 26;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const INET: u32 = 869;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const INTERVAL: u32 = 1186;
const TIMETZ: u32 = 1266;
const NUMERIC: u32 = 1700;
const UUID: u32 = 2950;

/// Ranges of the server's own.
const RANGES: [u32; 6] = [3904, 3906, 3908, 3910, 3912, 3926];

/// Arrays of texts, integers, numbers, times, uuid, JSON.
const ARRAYS: [u32; 22] = [
    199, 1000, 1001, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, 1041, 1115,
    1182, 1183, 1185, 1231, 2951, 3807,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_epoch() {
        assert_eq!((-10_957_i32).to_be_bytes(), [0xff, 0xff, 0xd5, 0x33]);
        let microseconds = -946_684_800_000_000_i64;
        assert_eq!(microseconds.to_be_bytes().as_slice(), binary(TIMESTAMP).unwrap());
    }

    #[test]
    fn dates_are_written_as_they_came() {
        for (value, want) in [
            ("1985-04-12", Some("1970-01-01")),
            ("12.04.1985", Some("01.01.1970")),
            ("04/12/1985", Some("01/01/1970")),
            ("04-12-1985", Some("01-01-1970")),
            ("infinity", None),
        ] {
            assert_eq!(text(DATE, value.as_bytes()), want, "{value}");
        }
    }

    #[test]
    fn numbers_fit_their_types() {
        let number = |type_oid, modifier, format| {
            let mut out = Vec::new();
            put_number(type_oid, modifier, format, u64::MAX, &mut out).then_some(out)
        };
        let text = |type_oid, modifier| {
            number(type_oid, modifier, Format::Text).map(|text| String::from_utf8(text).unwrap())
        };
        assert_eq!(text(INT2, -1).unwrap(), "32767");
        assert_eq!(text(INT4, -1).unwrap(), i32::MAX.to_string());
        assert_eq!(text(INT8, -1).unwrap(), i64::MAX.to_string());
        // 2^64 - 1 = 18446744073709551615; numeric(10, 2) and numeric(2, 2).
        assert_eq!(text(NUMERIC, (10 << 16 | 2) + 4).unwrap(), "9551615");
        assert_eq!(text(NUMERIC, (2 << 16 | 2) + 4), None);
        assert_eq!(text(NUMERIC, -1).unwrap(), "744073709551615");
        assert_eq!(text(DATE, -1), None);
        let binary = |type_oid| number(type_oid, -1, Format::Binary).unwrap();
        assert_eq!(binary(INT4), i32::MAX.to_be_bytes());
        let parts = [4_u16, 3, 0, 0, 744, 737, 955, 1615];
        assert_eq!(binary(NUMERIC), parts.map(u16::to_be_bytes).concat());
    }

    #[test]
    fn a_binary_array_keeps_its_element_type() {
        let mut out = Vec::new();
        let value = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0, 0, 0, 1, 0, 0, 0, 1];
        assert!(put(1007, Format::Binary, &value, &mut out));
        assert_eq!(out, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23]);
        assert!(!put(1007, Format::Binary, b"", &mut Vec::new()));
    }
}
