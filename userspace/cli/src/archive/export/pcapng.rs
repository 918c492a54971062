//! `vestibule archive export pcapng`: a session as packets, for those who read packets.

mod http;
mod wire;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use capture::write::{Talk, Writer};
use clap::Args as ClapArgs;
use journal::imported::KIND_PREFIX;
use journal::row::{EventRow, EventSession, RecordingRow};
use types::addr::Side;

use super::hand_out;
use crate::archive::recorded::{Session, Source};
use wire::Conversation;

/// Write a session as packets (pcapng) that Wireshark and tshark read: its statements or requests and their answers as far as
/// they are kept, in TCP/IP frames and messages that are made for this, with a comment at each that names the record
/// (node/epoch/seq), the decision and the rule. Of HTTP that is kept in full (`@record("full")`, with `--key`) the messages are
/// those that passed, an asterisk in the place of each byte of a secret. Where the session's port is not 5432 or 80, read it
/// with `tshark -d tcp.port==PORT,pgsql` (or `http`). `vestibule import` reads it, too.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Write it here; to the standard output where absent.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { source, out } = args;
    hand_out(control, source, out.as_deref(), |session, out| write(session, out))
}

fn write(session: &Session, out: impl Write) -> Result<()> {
    let Some(first) = session.events.first() else { return Ok(()) };
    ensure!(
        matches!(&*first.session.protocol, "postgresql" | "http"),
        "session {} speaks {}: packets are made of PostgreSQL and HTTP alone",
        first.session.session_id,
        first.session.protocol
    );
    let (client, server) = (
        end(first.session.src_ip.as_deref(), first.session.src_port)?,
        end(first.session.dst_ip.as_deref(), first.session.dst_port)?,
    );
    let application = concat!("vestibule ", env!("CARGO_PKG_VERSION"));
    let mut writer = Writer::new(out, application, "vestibule, made of an archive's records")?;
    let about = format!(
        "vestibule: frames made of the records of session {} of agent {}; the login and whatever is not kept are missing",
        first.session.session_id, first.session.agent_id
    );
    let mut talk = Talk::open(&mut writer, client, server, first.ts.0, &[&about])?;
    let mut conversation = Conversation::default();
    let mut last_us = first.ts.0;
    for event in &session.events {
        last_us = last_us.max(said(&mut writer, &mut talk, &mut conversation, event, session)?);
    }
    talk.close(&mut writer, last_us, &[])?;
    writer.finish()?;
    Ok(())
}

/// Writes a command and its answer; answers when it ended, microseconds since 1970 UTC.
fn said<W: Write>(
    writer: &mut Writer<W>,
    talk: &mut Talk,
    conversation: &mut Conversation,
    event: &EventRow,
    session: &Session,
) -> io::Result<i64> {
    let recording = session.recording(event);
    let kind = event.statement.kind.strip_prefix(KIND_PREFIX).unwrap_or(&event.statement.kind);
    let record =
        format!("record={}/{}/{}", event.session.node_id, event.session.log_epoch, event.seq.0);
    let asked = comment(&record, event, recording);
    let turns = match kind {
        "db.connect" => conversation.connect(event),
        "db.query" => conversation.query(event, recording),
        "http.request" => http::turns(event, session),
        // Which function, or whose command, is in no record's text.
        _ => Vec::new(),
    };
    let end_us = event.ts.0 + event.duration_us.unwrap_or(0);
    let mut last_us = end_us;
    if turns.is_empty() {
        talk.note(writer, Side::Downstream, event.ts.0, &[&asked])?;
    }
    let answered = answer_comment(&record, event);
    for (number, turn) in turns.iter().enumerate() {
        let at_us = turn.at_us.unwrap_or(match turn.side {
            Side::Downstream => event.ts.0,
            Side::Upstream => end_us,
        });
        let said = match (number, turn.side) {
            (0, _) => Some(asked.clone()),
            (1, Side::Upstream) => Some(answered.clone()),
            _ => None,
        };
        let left_out = turn.left_out.as_ref().map(|what| format!("{record} {what}"));
        let comments: Vec<String> = said.into_iter().chain(left_out).collect();
        let comments: Vec<&str> = comments.iter().map(String::as_str).collect();
        if turn.bytes.is_empty() {
            talk.note(writer, turn.side, at_us, &comments)?;
        } else {
            talk.say(writer, turn.side, (at_us, &turn.bytes), &comments)?;
        }
        last_us = last_us.max(at_us);
    }
    Ok(last_us)
}

fn comment(record: &str, event: &EventRow, recording: Option<&RecordingRow>) -> String {
    let EventRow { session, statement, decision, .. } = event;
    let EventSession { agent_id, rule_id, decision_reason, .. } = &**session;
    let kind = &statement.kind;
    let is_kept = recording.is_some_and(|one| one.statement.is_some());
    let stripped = !kind.ends_with("db.connect") && !is_kept;
    let words = [
        Some(format!("{record} kind={kind} agent={agent_id} decision={decision} rule={rule_id}")),
        Some(format!("reason={decision_reason}")),
        event.approval_id.as_ref().map(|approval| format!("approval={approval}")),
        stripped.then(|| "(the text is not kept: without its literals)".to_owned()),
    ];
    words.into_iter().flatten().collect::<Vec<String>>().join(" ")
}

fn answer_comment(record: &str, event: &EventRow) -> String {
    let EventRow { status, rows, error_code, masked, bytes_out, .. } = event;
    let masked: Vec<String> =
        masked.iter().map(|one| format!("masked={}:{}", one.entity, one.count)).collect();
    let words = [
        Some(format!("{record} status={status}")),
        rows.map(|rows| format!("rows={rows}")),
        error_code.as_ref().map(|code| format!("code={code}")),
        (!masked.is_empty()).then(|| masked.join(" ")),
        Some(format!("bytes={bytes_out} (as far as it is kept)")),
    ];
    words.into_iter().flatten().collect::<Vec<String>>().join(" ")
}

fn end(ip: Option<&str>, port: Option<i32>) -> Result<SocketAddr> {
    let ip = ip.and_then(|ip| ip.parse::<IpAddr>().ok());
    let port = port.and_then(|port| u16::try_from(port).ok());
    let (Some(ip), Some(port)) = (ip, port) else {
        anyhow::bail!("the session's addresses are not in its records");
    };
    Ok(SocketAddr::new(ip, port))
}
