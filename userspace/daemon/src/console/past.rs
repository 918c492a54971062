//! What happened on this host, for the console: of the archive and the journal.

use ::console::surroundings::{Failed, Found, Past, PastCommand, Replay, Wanted};
use approval::desk::Later;
use archive::search::{self, COMMANDS_MAX, Cut, Place, ROWS_LOOKED_AT_MAX, Sought, Whole};
use journal::row::{EventRow, EventSession, EventStatement};
use types::id::SessionId;

use super::around::{Around, blocking, failed};

impl Past for Around {
    fn search(&self, wanted: Wanted) -> Later<'_, Result<Found, Failed>> {
        let place = self.place();
        Box::pin(blocking(move || {
            let Wanted { from_us, until_us, agent, person, object, decision, session, most } =
                wanted;
            let sought =
                Sought { from_us, until_us, agent, person, object, decision, session, most };
            let found = search::search(&place()?, &sought).map_err(|error| failed(&error))?;
            let search::Found { events, cut } = found;
            let commands = events.into_iter().map(|event| command(event, None)).collect();
            Ok(Found { commands, is_cut: cut.map(|cut| said(cut, most)) })
        }))
    }

    fn replay(&self, session: String) -> Later<'_, Result<Option<Replay>, Failed>> {
        let place = self.place();
        Box::pin(blocking(move || {
            let Ok(id) = session.parse::<SessionId>() else { return Ok(None) };
            let whole = search::session(&place()?, &session, id.made_us());
            Ok(replay(session, whole.map_err(|error| failed(&error))?))
        }))
    }
}

impl Around {
    /// Where to look, once that is asked: it reads the checkpoint.
    fn place(&self) -> impl FnOnce() -> Result<Place, Failed> + use<> {
        let (archive, journal) = (self.archive_dir.clone(), self.journal_dir.clone());
        let (node, durable) = (self.node.clone(), self.door.recorder.durable());
        move || {
            let whose = (node.as_str(), super::around::epoch());
            search::place(&archive, whose, &journal, durable).map_err(|error| failed(&error))
        }
    }
}

fn replay(session: String, whole: Whole) -> Option<Replay> {
    let Whole { session: row, events, recordings, cut } = whole;
    let first = events.first();
    let agent = row.as_ref().map(|row| row.agent_id.as_str());
    let agent = agent.or(first.map(|event| event.session.agent_id.as_str()))?;
    let target = row.as_ref().map(|row| row.target_name.as_str());
    let target = target.or(first.map(|event| event.session.target_name.as_str()));
    let user = row.as_ref().map(|row| row.actor_user.as_deref());
    let mut replay = Replay {
        session,
        agent: agent.to_owned(),
        user: user
            .or(first.map(|event| event.session.actor_user.as_deref()))
            .flatten()
            .map(str::to_owned),
        target: target.unwrap_or_default().to_owned(),
        opened_us: row.as_ref().map(|row| row.opened_at.0),
        closed_us: row.as_ref().and_then(|row| row.closed_at).map(|at| at.0),
        close_reason: row.as_ref().and_then(|row| row.close_reason.clone()),
        commands: Vec::new(),
        is_cut: cut.map(|cut| said(cut, COMMANDS_MAX)),
    };
    let mut recordings = recordings.into_iter().peekable();
    for event in events {
        // Both are in the order of commands; a command has one recording at most.
        while recordings.next_if(|one| one.session_seq < event.session_seq).is_some() {}
        let own = recordings.next_if(|one| one.session_seq == event.session_seq);
        let texts = own.map(|own| (own.statement, own.parameters));
        replay.commands.push(command(event, texts));
    }
    Some(replay)
}

fn command(event: EventRow, texts: Option<(Option<String>, Option<String>)>) -> PastCommand {
    let (text, parameters) = texts.unwrap_or_default();
    let EventSession {
        session_id,
        agent_id,
        actor_user,
        target_name,
        protocol,
        rule_id,
        decision_reason,
        ..
    } = &*event.session;
    let EventStatement { kind, verb, objects, statement_norm, .. } = &*event.statement;
    PastCommand {
        at_us: event.ts.0,
        session: session_id.to_string(),
        number: u32::try_from(event.session_seq).unwrap_or(0),
        kind: kind.to_string(),
        agent: agent_id.to_string(),
        user: actor_user.as_ref().map(ToString::to_string),
        target: target_name.to_string(),
        protocol: protocol.to_string(),
        verb: verb.clone(),
        objects: objects.clone(),
        statement: statement_norm.clone(),
        decision: event.decision.into(),
        rule: rule_id.clone(),
        reason: decision_reason.clone(),
        status: event.status.into(),
        error: event.error_code,
        rows: event.rows,
        masked: event.masked_count,
        duration_us: event.duration_us,
        decided_us: event.decided_us,
        held_us: event.held_us,
        upstream_us: event.upstream_us,
        approval: event.approval_id,
        approver: event.approver_id,
        text,
        parameters,
    }
}

fn said(cut: Cut, most: usize) -> String {
    match cut {
        Cut::Most => format!("These are the {most} that are shown at most: there may be more."),
        Cut::Rows => format!("{ROWS_LOOKED_AT_MAX} rows were looked at: ask for less time."),
        Cut::Journal => "The journal holds more than is looked at, until it is sealed.".to_owned(),
    }
}
