//! HTTP messages of a session: those that passed, where all of them is kept; else such that say what records say.

use std::fmt::Write as _;

use journal::row::EventRow;
use types::addr::Side;

use super::wire::Turn;
use crate::archive::recorded::{Said, Session, What};

/// What a secret in a head may have, at most: as much as a head. What is longer is no such, and is left out.
const FILLED_BYTES_MAX: u64 = types::limits::HTTP_HEAD_BYTES_MAX as u64;

/// What both sides said at a request.
pub(super) fn turns(event: &EventRow, session: &Session) -> Vec<Turn> {
    let wire = session.wire(event);
    let is_kept = wire.iter().any(|said| matches!(said.what, What::Bytes(_)));
    if is_kept { passed(wire) } else { made(event, session) }
}

/// What passed.
fn passed(wire: &[Said]) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    let mut left_out: Vec<(Side, String)> = Vec::new();
    for Said { side, at_us, what } in wire {
        if let Some(missing) = missing(what) {
            left_out.push((*side, missing));
            continue;
        }
        let goes_on = turns.last().is_some_and(|turn| turn.side == *side);
        if !goes_on || left_out.iter().any(|(of, _)| of == side) {
            let before = take(&mut left_out, |of| of == *side, "before");
            turns.push(Turn {
                at_us: Some(*at_us),
                left_out: before,
                ..Turn::new(*side, Vec::new())
            });
        }
        let Some(turn) = turns.last_mut() else { continue };
        match what {
            What::Bytes(bytes) => turn.bytes.extend_from_slice(bytes),
            // So that what follows stands where it stood.
            What::Gap(bytes, _) => {
                let filled = turn.bytes.len() + usize::try_from(*bytes).unwrap_or(0);
                turn.bytes.resize(filled, b'*');
            }
        }
    }
    if let (Some(last), Some(behind)) = (turns.last_mut(), take(&mut left_out, |_| true, "behind"))
    {
        let before = last.left_out.take().map_or_else(String::new, |before| before + " ");
        last.left_out = Some(before + &behind);
    }
    turns
}

/// What of a gap is said, where it is not filled.
fn missing(what: &What) -> Option<String> {
    match what {
        What::Bytes(_) => None,
        What::Gap(bytes, why) if why == "secret" && *bytes <= FILLED_BYTES_MAX => None,
        What::Gap(bytes, why) => Some(format!("{bytes} bytes THERE this are not kept: {why}")),
    }
}

/// What was left out of these sides, in words; nothing where nothing was.
fn take(
    left_out: &mut Vec<(Side, String)>,
    is_of: impl Fn(Side) -> bool,
    there: &str,
) -> Option<String> {
    let (of, rest): (Vec<_>, Vec<_>) = left_out.drain(..).partition(|(side, _)| is_of(*side));
    *left_out = rest;
    let all = of.into_iter().map(|(_, text)| text.replace("THERE", there));
    all.reduce(|all, one| all + ", " + &one).map(|text| format!("({text})"))
}

/// A request and an answer that say what is kept in words.
fn made(event: &EventRow, session: &Session) -> Vec<Turn> {
    let recording = session.recording(event);
    let statement = recording.and_then(|one| one.statement.as_deref());
    let statement = statement.unwrap_or(&event.statement_norm);
    let Some((method, target)) = statement.split_once(' ') else { return Vec::new() };
    let host = match (&event.dst_ip, event.dst_port) {
        (Some(ip), Some(port)) if ip.contains(':') => format!("[{ip}]:{port}"),
        (Some(ip), Some(port)) => format!("{ip}:{port}"),
        _ => "unknown".to_owned(),
    };
    let target = encoded(target);
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
    let mut turns = vec![Turn::new(Side::Downstream, request.into_bytes())];
    let sample = recording.and_then(|one| one.response_sample.as_deref()).unwrap_or_default();
    if let Some(answer) = answer(event, sample) {
        turns.push(Turn::new(Side::Upstream, answer.into_bytes()));
    }
    turns
}

/// An answer of a sample: its first line is the status and what the content is, the rest is text of that.
fn answer(event: &EventRow, sample: &str) -> Option<String> {
    let (first, text) = sample.split_once('\n').unwrap_or((sample, ""));
    let mut words = first.split(' ').skip(1);
    let status = words.next().filter(|word| is_status(word));
    let told = event.error_code.as_deref().and_then(|code| code.strip_prefix("HT"));
    let status = told.or(status).filter(|word| is_status(word))?;
    let kind = words.next().unwrap_or_default();
    let is_kind = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_graphic());
    let kind = if is_kind { format!("Content-Type: {kind}\r\n") } else { String::new() };
    let text = if kind.is_empty() { "" } else { text };
    let length = text.len();
    Some(format!("HTTP/1.1 {status} \r\n{kind}Content-Length: {length}\r\n\r\n{text}"))
}

fn is_status(word: &str) -> bool {
    word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit()) && !word.starts_with('0')
}

/// A target in words as one that can be sent.
fn encoded(target: &str) -> String {
    let mut out = String::with_capacity(target.len());
    for byte in target.bytes() {
        if byte.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
