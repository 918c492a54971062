//! RFC 5424: a row's columns are parameters of one structured element, lists repeat theirs.

use journal::row::Row;

use super::{pictured, texts};
use crate::json;

/// RFC 5424 §6.2.1: "log audit".
const FACILITY: u32 = 13;

/// The structured element; 32473 is the number for documentation (RFC 5612), as there is none of our own.
const ELEMENT: &str = "vestibule@32473";

/// A message, without its end.
pub(super) fn line(row: &Row, out: &mut String) {
    let (kind, severity, text) = match row {
        // RFC 5424 §6.2.1: 4 is a warning, 5 a notice, 6 informational.
        Row::Event(row) => {
            let severity = match (row.decision.as_str(), row.status.as_str()) {
                ("deny", _) => 4,
                ("break_glass", _) => 5,
                (_, "ok") => 6,
                _ => 5,
            };
            let text = format!(
                "{} {} {}",
                row.decision,
                row.statement.verb,
                row.statement.objects.join(" ")
            );
            (row.statement.kind.as_str(), severity, text)
        }
        Row::Session(row) => ("session", 6, row.agent_id.clone()),
        Row::Control(row) => (row.kind.as_str(), 6, row.kind.clone()),
        Row::Recording(row) => ("recording", 6, row.session_id.to_string()),
    };
    let priority = FACILITY * 8 + severity;
    let (node, kind) = (token(row.node(), 255), token(kind, 32));
    let time = json::time(row.ts().0);
    let head = format!("<{priority}>1 {time} {node} vestibule - {kind} [{ELEMENT}");
    out.push_str(&head);
    parameter("table", row.table().as_str(), out);
    texts(row, &mut |name, value| parameter(name, value, out));
    // §6.4: UTF-8 begins with its mark.
    out.push_str("] \u{feff}");
    out.extend(text.trim_end().chars().map(pictured));
}

/// §6.3.3: quotes, backslashes and closing brackets are escaped. There is no escape for what ends a line.
fn parameter(name: &str, value: &str, out: &mut String) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(pictured(c));
    }
    out.push('"');
}

/// §6: printable ASCII without blanks, of at most `most`; `-` for nothing.
fn token(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let token: String = text.chars().map(plain).take(most).collect();
    if token.is_empty() { "-".to_owned() } else { token }
}
