//! `vestibule status`: how the daemon is.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use types::control::{
    ForwardStanding, HubStanding, JournalSealStanding, JournalStanding, Request, Response,
    ShipStanding, Status, WitnessStanding,
};

use crate::Output;
use crate::control::ask;

/// Show how the daemon is: sessions, agents, journal, policy.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Response::Status(status) = ask(control, &Request::Status, Duration::from_secs(5))? else {
        bail!("the daemon's answer is not a status");
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string(&status)?),
        Output::Table => println!("{}", table(&status)),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(status: &Status) -> Table {
    let Status {
        version,
        pid,
        uptime_s,
        node,
        sessions_open,
        sessions_total,
        commands_total,
        commands_denied,
        connections_refused,
        dns_queries,
        dns_refused,
        dns_dropped,
        kernel_refusals,
        flows_differing,
        catalogs_lost,
        approvals_waiting,
        approvals_oldest_us,
        grants,
        webhooks_due,
        agents,
        journal_durable_lsn,
        journal_trouble,
        rows,
        policy_digest,
        pin_dir,
        hub,
        witnesses,
        ship,
        archive_immutable,
        archive_trouble,
        journal,
        journal_seal,
        forwards,
    } = status;
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.add_row(["daemon", &format!("{version}, pid {pid}, up {uptime_s} s")]);
    table.add_row(["node", node]);
    table.add_row(["sessions", &format!("{sessions_open} open, {sessions_total} since start")]);
    table.add_row(["commands", &format!("{commands_total}, {commands_denied} refused")]);
    let look_ups = format!("{dns_queries}, {dns_refused} refused, {dns_dropped} dropped");
    table.add_row(["look-ups", &look_ups]);
    table.add_row(["connections refused", &connections_refused.to_string()]);
    table.add_row(["refused in the kernel", &kernel_refusals.to_string()]);
    table.add_row(["flows that differ", &flows_differing.to_string()]);
    table.add_row(["catalogs not read", &catalogs_lost.to_string()]);
    let since = approvals_oldest_us
        .map_or_else(String::new, |at_us| format!(" since {}", types::clock::utc(at_us)));
    let approvals = format!("{approvals_waiting} wait{since}, {grants} grants");
    table.add_row(["approvals", &approvals]);
    table.add_row(["webhooks", &format!("{webhooks_due} messages due")]);
    table.add_row(["agents", &if agents.is_empty() { "none".into() } else { agents.join(", ") }]);
    let trouble = journal_trouble.as_ref().map_or_else(String::new, |why| format!("; {why}"));
    let durable = format!("{journal_durable_lsn} frames durable, {rows} rows{trouble}");
    table.add_row(["journal", &durable]);
    kept(&mut table, journal.as_deref());
    table.add_row(["policy", policy_digest]);
    table.add_row(["hooks pinned in", pin_dir]);
    reached(&mut table, hub.as_ref());
    sealing(&mut table, journal_seal.as_deref(), archive_trouble.as_deref());
    evidence(&mut table, witnesses, *archive_immutable, ship.as_deref());
    forwarding(&mut table, forwards);
    table
}

/// Where people of several hosts answer.
fn reached(table: &mut Table, hub: Option<&HubStanding>) {
    if let Some(HubStanding { hub, since_us: _, backlog, votes, error }) = hub {
        let reached =
            hub.clone().or_else(|| error.as_ref().map(|why| format!("not reached: {why}")));
        let reached = reached.unwrap_or_else(|| "not reached yet".into());
        table.add_row([
            "hub",
            &format!("{reached}; {votes} votes taken, {backlog} requests to tell"),
        ]);
    }
}

/// What the journal takes.
fn kept(table: &mut Table, journal: Option<&JournalStanding>) {
    if let Some(JournalStanding { first_row, segments, bytes, lets_go }) = journal {
        let megabytes = bytes / 1_000_000;
        let stays = if *lets_go { "" } else { "; nothing of it is let go ([journal] prune)" };
        let kept = format!("from row {first_row} on, {segments} segments, {megabytes} MB{stays}");
        table.add_row(["journal kept", &kept]);
    }
}

/// How far the journal is sealed, and why nothing is sealed into the archive.
fn sealing(table: &mut Table, seal: Option<&JournalSealStanding>, trouble: Option<&str>) {
    if let Some(JournalSealStanding { next, lsn }) = seal {
        let sealed = match next.checked_sub(1) {
            None => "not yet".to_owned(),
            Some(last) => format!("up to frame {lsn}, by seal {last}"),
        };
        table.add_row(["journal sealed", &sealed]);
    }
    if let Some(why) = trouble {
        let why = format!("NOT SEALED: {why}; nothing is lost, it is tried again");
        table.add_row(["archive", &why]);
    }
}

/// Where the archive is safe.
fn evidence(
    table: &mut Table,
    witnesses: &[WitnessStanding],
    is_immutable: bool,
    ship: Option<&ShipStanding>,
) {
    for witness in witnesses {
        table.add_row([&format!("witness {}", witness.name), &cosigned(witness)]);
    }
    if is_immutable {
        table.add_row(["sealed files", "can't be changed where they lie (immutable attribute)"]);
    }
    if let Some(ship) = ship {
        table.add_row(["shipped to", &shipped(ship)]);
    }
}

/// Who gets rows as they are committed.
fn forwarding(table: &mut Table, forwards: &[ForwardStanding]) {
    for forward in forwards {
        table.add_row([&format!("forward {}", forward.name), &forwarded(forward)]);
    }
}

fn forwarded(forward: &ForwardStanding) -> String {
    let ForwardStanding { name: _, to, next_row, rows_behind, error } = forward;
    let why = error.as_ref().map(|why| format!("; FAILED: {why}")).unwrap_or_default();
    format!("{to}: up to row {next_row}, {rows_behind} behind{why}")
}

fn shipped(ship: &ShipStanding) -> String {
    let ShipStanding { url, size, rows_behind, files_behind, bytes_behind, oldest_us, error } =
        ship;
    let since = oldest_us.map(|us| format!(", the oldest sealed {}", types::clock::utc(us)));
    let behind = match rows_behind {
        0 => "all that is sealed".to_owned(),
        rows => format!(
            "{rows} rows behind ({files_behind} files, {bytes_behind} bytes{})",
            since.unwrap_or_default()
        ),
    };
    let why = error.as_ref().map(|why| format!("; FAILED: {why}")).unwrap_or_default();
    format!("{url}: up to row {size}, {behind}{why}")
}

fn cosigned(witness: &WitnessStanding) -> String {
    let WitnessStanding { name: _, url: _, size, rows_behind, error } = witness;
    match (size, error) {
        (Some(size), None) => format!("cosigned up to row {size}, {rows_behind} behind"),
        (size, Some(why)) => format!(
            "{} behind: {why}",
            size.map_or_else(|| "all".into(), |_| rows_behind.to_string())
        ),
        (None, None) => "not asked yet".into(),
    }
}
