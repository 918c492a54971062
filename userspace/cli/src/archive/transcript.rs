//! A session as text in time: each command, what was decided, and the answer as far as it is kept, as the agent saw it.

use std::time::Duration;

use journal::row::{EventRow, EventSession, RecordingRow};
use types::addr::Side;
use types::clock::utc;

use super::recorded::{Said, Session, What};

/// Something to show at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    /// When it was, since the first command came.
    pub(super) at: Duration,
    /// Of which command of the session.
    pub(super) command: i32,
    /// Whether the command begins with it.
    pub(super) is_first: bool,
    /// What to show: whole lines, of which a terminal obeys nothing.
    pub(super) text: String,
}

/// What to show of a session, in order.
pub(super) fn beats(session: &Session) -> Vec<Beat> {
    let begun_us = session.events.first().map_or(0, |event| event.ts.0);
    let since = |us: i64| Duration::from_micros(u64::try_from(us - begun_us).unwrap_or(0));
    let mut beats: Vec<Beat> = Vec::new();
    for event in &session.events {
        let recording = session.recording(event);
        let command = event.session_seq;
        // Commands that were sent ahead came before the answers of those before them.
        let last = beats.last().map_or(Duration::ZERO, |beat| beat.at);
        let at = since(event.ts.0).max(last);
        let mut text = asked(event, recording, at);
        text.push_str(&passed(session.wire(event), Side::Downstream));
        beats.push(Beat { at, command, is_first: true, text });
        let end = since(event.ts.0 + event.duration_us.unwrap_or(0)).max(at);
        let passed = passed(session.wire(event), Side::Upstream);
        let text = answered(event, recording, &passed);
        beats.push(Beat { at: end, command, is_first: false, text });
    }
    beats
}

fn asked(event: &EventRow, recording: Option<&RecordingRow>, at: Duration) -> String {
    let (seconds, when) = (at.as_secs_f64(), utc(event.ts.0));
    let EventRow { session, session_seq, decision, .. } = event;
    let EventSession { agent_id, rule_id, decision_reason, .. } = &**session;
    let kept = recording.and_then(|one| one.statement.as_deref());
    let statement = shown(kept.unwrap_or(&event.statement.statement_norm));
    let asked = recording.and_then(|one| one.parameters.as_deref());
    let parameters = asked.filter(|parameters| *parameters != "[]");
    let parameters = parameters.map(|parameters| format!("  with {}\n", shown(parameters)));
    let by = [decision, " by ", rule_id].concat();
    [
        format!("\n[+{seconds:.3} s, {when}] #{session_seq} {agent_id}\n> {statement}\n"),
        parameters.unwrap_or_default(),
        format!("  {}: {}\n", shown(&by), shown(decision_reason)),
    ]
    .concat()
}

/// What a side said over the wire, line by line, as it is kept; what is not is said.
fn passed(wire: &[Said], side: Side) -> String {
    let of_side = wire.iter().filter(|said| said.side == side).map(|said| match &said.what {
        What::Bytes(bytes) => String::from_utf8_lossy(bytes),
        What::Gap(bytes, why) => format!("[{bytes} bytes not kept: {why}]").into(),
    });
    let text: String = of_side.collect();
    let mark = if side == Side::Downstream { "» " } else { "< " };
    text.lines().flat_map(|line| [mark.to_owned(), shown(line), "\n".to_owned()]).collect()
}

fn answered(event: &EventRow, recording: Option<&RecordingRow>, passed: &str) -> String {
    let sample = recording.and_then(|one| one.response_sample.as_deref()).unwrap_or_default();
    // All that passed has what is kept in words in it.
    let mut lines: Vec<String> = match passed {
        "" => sample.lines().map(|line| format!("< {}\n", shown(line))).collect(),
        passed => vec![passed.to_owned()],
    };
    let rows = event.rows.map(|rows| format!(", {rows} rows")).unwrap_or_default();
    let code = event.error_code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
    let masked = match event.masked_count {
        0 => String::new(),
        count => format!(", {count} values masked"),
    };
    let ms = event.duration_us.map(|us| format!(", {} ms", us / 1000)).unwrap_or_default();
    let (status, bytes) = (&event.status, event.bytes_out);
    lines.push(format!("  {status}{code}{rows}{masked}{ms}, {bytes} B\n"));
    lines.concat()
}

/// Text that a terminal obeys nothing of.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // What changes the direction of text (Unicode UAX #9) hides what is there.
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match c {
            '\t' => out.push(' '),
            '\n' => out.push_str("\n  "),
            c if c.is_control() || turns => {
                let number = format!("<U+{:04X}>", u32::from(c));
                out.push_str(&number);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        assert_eq!(
            shown("a\u{1b}[2Jb\u{202e}c\u{7f}\r\tö"),
            "a<U+001B>[2Jb<U+202E>c<U+007F><U+000D> ö"
        );
        assert_eq!(shown("a\nb"), "a\n  b");
    }
}
