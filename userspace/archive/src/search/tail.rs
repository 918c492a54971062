//! What of the journal is not sealed yet.

use std::collections::VecDeque;

use journal::assemble::Rows;
use journal::row::{EventRow, Row};

use super::{Cut, Place, SearchError, Sought, TAIL_ROWS_MAX, Whole};

/// What was found there.
pub(super) struct Tail {
    pub(super) events: Vec<EventRow>,
    pub(super) cut: Option<Cut>,
}

/// The newest commands there that are sought.
pub(super) fn events(place: &Place, sought: &Sought) -> Result<Tail, SearchError> {
    let mut events = VecDeque::new();
    let is_all = each(place, &mut |row| {
        if let Row::Event(event) = row
            && sought.meets(&event)
        {
            if events.len() == sought.most {
                events.pop_front();
            }
            events.push_back(*event);
        }
    })?;
    Ok(Tail { events: events.into(), cut: (!is_all).then_some(Cut::Journal) })
}

/// What there is of a session.
pub(super) fn session(place: &Place, sought: &Sought) -> Result<Whole, SearchError> {
    let mut whole = Whole::default();
    let is_its = |session: &str| sought.session.as_deref() == Some(session);
    let is_all = each(place, &mut |row| {
        let is_meant = match &row {
            Row::Event(row) => is_its(&row.session.session_id),
            Row::Session(row) => is_its(&row.session_id),
            Row::Recording(row) => is_its(&row.session_id),
            Row::Control(_) => false,
        };
        if is_meant {
            whole.take(row);
        }
    })?;
    whole.cut = (!is_all).then_some(Cut::Journal);
    Ok(whole)
}

/// Calls `each` with every row behind what is sealed; false where there are more than are looked at.
fn each(place: &Place, each: &mut dyn FnMut(Row)) -> Result<bool, SearchError> {
    let mut rows = Rows::open(&place.journal, place.sealed, Some(place.durable))?;
    for _ in 0..TAIL_ROWS_MAX {
        let Some(row) = rows.next_row()? else { return Ok(true) };
        each(row);
    }
    Ok(false)
}
