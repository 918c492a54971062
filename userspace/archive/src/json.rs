//! A row as one line of JSON: every column by its name, in canonical order, absent ones null. Times are RFC 3339 to the
//! microsecond, binaries are hex; nothing is lost.

use journal::row::{Row, Value};

use crate::layout;
use types::hex::hex;

/// Appends the row, without an end of line.
pub fn line(row: &Row, out: &mut String) {
    let mut columns = row.table().columns().iter();
    let mut separator = '{';
    row.visit(&mut |value| {
        let Some(column) = columns.next() else { return };
        out.push(separator);
        separator = ',';
        text(column.name, out);
        out.push(':');
        self::value(value, out);
    });
    out.push('}');
}

/// An instant as RFC 3339 in UTC, to the microsecond.
pub fn time(unix_us: i64) -> String {
    let (day, us) = (unix_us.div_euclid(86_400_000_000), unix_us.rem_euclid(86_400_000_000));
    let (seconds, us) = (us / 1_000_000, us % 1_000_000);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{}T{h:02}:{m:02}:{s:02}.{us:06}Z", layout::date(day))
}

/// Appends one value.
pub(crate) fn value(value: Value<'_>, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(it) => out.push_str(if it { "true" } else { "false" }),
        Value::I32(it) => out.push_str(&it.to_string()),
        Value::I64(it) => out.push_str(&it.to_string()),
        Value::Ts(it) => text(&time(it.0), out),
        Value::Str(it) => text(it, out),
        Value::Bytes(it) => text(&hex(it), out),
        Value::StrList(items) => list(items.iter(), out, |item, out| text(item, out)),
        Value::MaskList(items) => list(items.iter(), out, |item, out| {
            out.push_str("{\"entity\":");
            text(&item.entity, out);
            out.push_str(",\"count\":");
            out.push_str(&item.count.to_string());
            out.push('}');
        }),
    }
}

fn list<'a, T: 'a>(
    items: impl Iterator<Item = &'a T>,
    out: &mut String,
    each: impl Fn(&T, &mut String),
) {
    out.push('[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(',');
        }
        each(item, out);
    }
    out.push(']');
}

/// Appends a string as JSON has it.
pub fn text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use journal::row::{ControlRow, Micros};

    use super::*;

    #[test]
    fn nothing_is_lost_and_times_have_their_microseconds() {
        let kind = "a\"\u{2028}\u{0}\\".to_owned();
        let row = ControlRow { ts: Micros(-1), kind: kind.clone(), ..ControlRow::default() };
        let mut out = String::new();
        line(&Row::Control(Box::new(row)), &mut out);
        let read: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (&read["ts"], &read["kind"]),
            (&"1969-12-31T23:59:59.999999Z".into(), &kind.into())
        );
        assert!(read["subject"].is_null() && read.as_object().unwrap().len() == 23, "{out}");
        assert!(!out.contains('\n'));
    }
}
