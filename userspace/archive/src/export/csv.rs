//! RFC 4180, with line feeds at the ends of lines.

use journal::row::{Row, Table, Value};

use crate::json;

/// The names of the columns.
pub(super) fn header(table: Table, out: &mut String) {
    let names: Vec<&str> = table.columns().iter().map(|column| column.name).collect();
    out.push_str(&names.join(","));
    out.push('\n');
}

/// A row: what is absent is nothing, an empty text `""`; lists are JSON, binaries hex.
pub(super) fn line(row: &Row, out: &mut String) {
    let mut is_first = true;
    row.visit(&mut |value| {
        if !is_first {
            out.push(',');
        }
        is_first = false;
        match value {
            Value::Null => {}
            Value::Str(text) => field(text, out),
            Value::Ts(time) => out.push_str(&json::time(time.0)),
            Value::StrList(_) | Value::MaskList(_) => {
                let mut text = String::new();
                json::value(value, &mut text);
                field(&text, out);
            }
            Value::Bool(it) => out.push_str(if it { "true" } else { "false" }),
            Value::I32(it) => out.push_str(&it.to_string()),
            Value::I64(it) => out.push_str(&it.to_string()),
            Value::Bytes(it) => out.push_str(&types::hex::hex(it)),
        }
    });
}

fn field(text: &str, out: &mut String) {
    let is_plain = |c: char| !matches!(c, ',' | '"' | '\n' | '\r') && !c.is_whitespace();
    if !text.is_empty() && text.chars().all(is_plain) {
        out.push_str(text);
        return;
    }
    out.push('"');
    out.push_str(&text.replace('"', "\"\""));
    out.push('"');
}
