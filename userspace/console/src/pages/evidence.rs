//! How the evidence stands.

use std::sync::Arc;

use askama::Template;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::Response;

use super::{Fact, Frame, page};
use crate::html::{Html, text};
use crate::refusal::Refusal;
use crate::signed::Signed;
use crate::state::State;
use crate::surroundings::{Checkpoint, Disk, EvidenceStanding};
use crate::times::When;

#[derive(Template)]
#[template(path = "evidence.html")]
struct EvidencePage {
    frame: Frame,
    wrong: Option<&'static str>,
    facts: Vec<Fact>,
}

/// `GET /evidence`.
pub(crate) async fn show(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
) -> Result<Response, Refusal> {
    let none = || Refusal::told(StatusCode::NOT_FOUND, "There is no evidence here: ask the host.");
    let evidence = state.parts.surroundings.evidence().ok_or_else(none)?;
    let standing = evidence.standing().await;
    let standing = standing.map_err(|error| Refusal::failed(error.to_string()))?;
    let is_short = [standing.journal_disk, standing.archive_disk]
        .iter()
        .any(|disk| disk.free_bytes <= disk.reserve_bytes);
    let template = EvidencePage {
        frame: Frame::of(&state, &signed, "evidence", "Evidence"),
        wrong: is_short.then_some("A disk is full: nothing more is accepted."),
        facts: facts(&standing, state.now().unix_us),
    };
    Ok(page(StatusCode::OK, &template))
}

fn facts(standing: &EvidenceStanding, now_us: i64) -> Vec<Fact> {
    let EvidenceStanding {
        node,
        checkpoint,
        rows,
        durable_lsn,
        journal_disk,
        archive_disk,
        shipping_lag_s,
    } = standing;
    let mut facts = vec![("Host", text(node))];
    match checkpoint {
        Some(Checkpoint { tree_size, root, at_us }) => {
            let unsealed = rows.saturating_sub(*tree_size);
            facts.push(("Last checkpoint", text(&format!("{tree_size} rows, root {root}"))));
            if let Some(at_us) = at_us {
                facts.push(("Signed", Html::of_when(When::new(*at_us, now_us))));
            }
            facts.push(("Rows since", text(&unsealed.to_string())));
        }
        None => facts.push(("Last checkpoint", text("none yet"))),
    }
    facts.push(("Rows", text(&rows.to_string())));
    facts.push(("Durable in the journal", text(&format!("frame {durable_lsn}"))));
    facts.push(("Journal’s disk", text(&disk(*journal_disk))));
    facts.push(("Archive’s disk", text(&disk(*archive_disk))));
    let lag = shipping_lag_s.map_or("not configured".to_owned(), |s| format!("{s} s behind"));
    facts.push(("Shipping", text(&lag)));
    facts
}

fn disk(disk: Disk) -> String {
    let Disk { free_bytes, total_bytes, reserve_bytes } = disk;
    let percent = free_bytes.saturating_mul(100) / total_bytes.max(1);
    let mib = |bytes: u64| bytes / 1_048_576;
    format!(
        "{} MiB free of {} MiB ({percent} %); below {} MiB nothing more is accepted",
        mib(free_bytes),
        mib(total_bytes),
        mib(reserve_bytes)
    )
}
