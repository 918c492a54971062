//! HTTP messages of a session: those that passed, where all of them is kept; else such that say what records say.

use journal::row::EventRow;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
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
    let mut missing: Vec<Missing<'_>> = Vec::new();
    for Said { side, at_us, what } in wire {
        if let What::Gap(bytes, why) = what
            && !(why == "secret" && *bytes <= FILLED_BYTES_MAX)
        {
            missing.push(Missing { side: *side, bytes: *bytes, why });
            continue;
        }
        let before: Vec<_> = missing.extract_if(.., |one| one.side == *side).collect();
        let goes_on = before.is_empty() && turns.last().is_some_and(|turn| turn.side == *side);
        if !goes_on {
            let left_out = told(&before, "before");
            turns.push(Turn { at_us: Some(*at_us), left_out, ..Turn::new(*side, Vec::new()) });
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
    if let (Some(last), Some(behind)) = (turns.last_mut(), told(&missing, "behind")) {
        let before = last.left_out.take().map_or_else(String::new, |before| before + " ");
        last.left_out = Some(before + &behind);
    }
    turns
}

/// What of a side is not there, and not filled.
struct Missing<'s> {
    side: Side,
    bytes: u64,
    why: &'s str,
}

/// That in words; nothing where nothing is missing.
fn told(missing: &[Missing<'_>], there: &str) -> Option<String> {
    let one = |Missing { bytes, why, .. }: &Missing<'_>| {
        format!("{bytes} bytes {there} this are not kept: {why}")
    };
    let all: Vec<String> = missing.iter().map(one).collect();
    (!all.is_empty()).then(|| format!("({})", all.join(", ")))
}

/// A request and an answer that say what is kept in words.
fn made(event: &EventRow, session: &Session) -> Vec<Turn> {
    let recording = session.recording(event);
    let statement = recording.and_then(|one| one.statement.as_deref());
    let statement = statement.unwrap_or(&event.statement.statement_norm);
    let Some((method, target)) = statement.split_once(' ') else { return Vec::new() };
    let host = match (&event.session.dst_ip, event.session.dst_port) {
        (Some(ip), Some(port)) if ip.contains(':') => format!("[{ip}]:{port}"),
        (Some(ip), Some(port)) => format!("{ip}:{port}"),
        _ => "unknown".to_owned(),
    };
    let target = utf8_percent_encode(target, &ENCODED);
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

/// What of a target in words is encoded, so that it can be sent.
const ENCODED: AsciiSet = CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
