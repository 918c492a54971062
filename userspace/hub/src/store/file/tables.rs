//! The tables of the file, and what is done to them.

use std::collections::HashSet;

use approval::desk::{Over, Standing, Which};
use approval::four_eyes::same_person;
use approval::{Ending, Vote};
use redb::{
    Database, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};
use types::id::RequestId;

use crate::protocol::{DueVote, Hello, Outcome, Settled, VoteId, progress as progress_of};
use crate::store::{Cast, Progress, REQUESTS_MAX, StoreError, WAITING_MAX};

/// `version`, `votes`: the last number given.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// [`Row`]s as JSON.
const REQUESTS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("requests");
/// Those that wait, by node.
const WAITING: TableDefinition<'_, (&str, u128), ()> = TableDefinition::new("waiting");
/// [`Ballot`]s as JSON.
const VOTES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("votes");
/// Which votes are on a request.
const BALLOTS: TableDefinition<'_, (u128, u64), ()> = TableDefinition::new("ballots");
/// Votes without an outcome, by node.
const DUE: TableDefinition<'_, (&str, u64), ()> = TableDefinition::new("due");

/// What these tables are.
const VERSION: u64 = 1;

/// Requests that one sweep forgets: a transaction of a few megabytes.
const SWEPT_MAX: usize = 4_096;

#[derive(Serialize, Deserialize)]
struct Row {
    node: String,
    /// Its end is not its host's word.
    presumed: bool,
    /// Without its text.
    standing: Standing,
}

impl Row {
    /// As far as the host said.
    fn progress(&self) -> u64 {
        progress_of(&self.standing) - u64::from(self.presumed)
    }
}

#[derive(Serialize, Deserialize)]
struct Ballot {
    request: RequestId,
    node: String,
    vote: Vote,
    outcome: Option<Outcome>,
}

/// Makes the tables, or checks that they are ours.
pub(super) fn prepare(database: &Database) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let version = meta.get("version")?.map(|version| version.value());
        match version {
            None => drop(meta.insert("version", VERSION)?),
            Some(VERSION) => {}
            Some(other) => {
                return Err(StoreError::Newer(i64::try_from(other).unwrap_or(i64::MAX), 1));
            }
        }
        transaction.open_table(REQUESTS)?;
        transaction.open_table(WAITING)?;
        transaction.open_table(VOTES)?;
        transaction.open_table(BALLOTS)?;
        transaction.open_table(DUE)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Takes how requests stand, without their texts; `taken` are then those that were not older than what is kept.
pub(super) fn tell(
    transaction: &WriteTransaction,
    node: &str,
    standings: &[Standing],
    taken: &mut HashSet<RequestId>,
) -> Result<(), StoreError> {
    let mut requests = transaction.open_table(REQUESTS)?;
    let mut waiting = transaction.open_table(WAITING)?;
    let mut room = WAITING_MAX.saturating_sub(waiting.range(of_node(node))?.count());
    for standing in standings {
        let (id, waits) = (standing.request.id, standing.ended.is_none());
        let before = requests.get(key(id))?.map(|row| read::<Row>(row.value())).transpose()?;
        let is_known = before.as_ref().is_some_and(|before| {
            let (then, now) = (before.progress(), progress_of(standing));
            let has_ended = before.standing.ended.is_some() && !before.presumed;
            before.node != node || now < then || (now == then && has_ended)
        });
        if is_known {
            continue;
        }
        if waits {
            if waiting.insert((node, key(id)), ())?.is_none() {
                room = room.checked_sub(1).ok_or_else(|| StoreError::Full(node.to_owned()))?;
            }
        } else {
            waiting.remove((node, key(id)))?;
        }
        let row = Row { node: node.to_owned(), presumed: false, standing: standing.clone() };
        requests.insert(key(id), serde_json::to_vec(&row)?.as_slice())?;
        taken.insert(id);
    }
    Ok(())
}

/// Takes what waits at a node; answers what is to be told, and what is over by that.
pub(super) fn hello(
    transaction: &WriteTransaction,
    node: &str,
    hello: &Hello,
    has_text: impl Fn(RequestId) -> bool,
) -> Result<(Vec<RequestId>, Vec<RequestId>), StoreError> {
    let Hello { at_us, waiting: known } = hello;
    let mut requests = transaction.open_table(REQUESTS)?;
    let mut waiting = transaction.open_table(WAITING)?;
    let mut wanted = Vec::new();
    for known in known {
        let row = requests.get(key(known.id))?.map(|row| read::<Row>(row.value())).transpose()?;
        let has_it = row.is_some_and(|Row { standing, .. }| {
            standing.ended.is_none() && progress_of(&standing) >= known.progress
        });
        if !has_it || !has_text(known.id) {
            wanted.push(known.id);
        }
    }
    let known: HashSet<u128> = known.iter().map(|known| key(known.id)).collect();
    let mut gone = ids(waiting.range(of_node(node))?)?;
    gone.retain(|id| !known.contains(id));
    let mut ended = Vec::new();
    for id in gone {
        let Some(mut row) = requests.get(id)?.map(|row| read::<Row>(row.value())).transpose()?
        else {
            continue;
        };
        // What came since is not known by what was said before.
        if row.standing.request.at_us < *at_us {
            presume(&mut row, *at_us);
            requests.insert(id, serde_json::to_vec(&row)?.as_slice())?;
            waiting.remove((node, id))?;
            ended.push(row.standing.request.id);
        }
    }
    Ok((wanted, ended))
}

/// Votes that wait for a node.
pub(super) fn due(
    transaction: &ReadTransaction,
    node: &str,
    most: usize,
) -> Result<Vec<DueVote>, StoreError> {
    let (due, votes) = (transaction.open_table(DUE)?, transaction.open_table(VOTES)?);
    let mut found = Vec::new();
    for entry in due.range((node, 0)..=(node, u64::MAX))?.take(most) {
        let (_, number) = entry?.0.value();
        if let Some(ballot) = votes.get(number)? {
            let Ballot { request, node: _, vote, outcome: _ } = read(ballot.value())?;
            found.push(DueVote { id: VoteId(number), request, vote });
        }
    }
    Ok(found)
}

/// Takes what became of votes.
pub(super) fn settle(
    transaction: &WriteTransaction,
    node: &str,
    settled: &[Settled],
) -> Result<(), StoreError> {
    let mut due = transaction.open_table(DUE)?;
    let mut votes = transaction.open_table(VOTES)?;
    for Settled { id: VoteId(number), outcome } in settled {
        // Another node's, or settled before.
        if due.remove((node, *number))?.is_none() {
            continue;
        }
        let ballot =
            votes.get(*number)?.map(|ballot| read::<Ballot>(ballot.value())).transpose()?;
        if let Some(mut ballot) = ballot {
            ballot.outcome = Some(outcome.clone());
            votes.insert(*number, serde_json::to_vec(&ballot)?.as_slice())?;
        }
    }
    Ok(())
}

/// Keeps a vote; answers its node as well.
pub(super) fn cast(
    transaction: &WriteTransaction,
    id: RequestId,
    vote: &Vote,
) -> Result<(Cast, Option<String>), StoreError> {
    let requests = transaction.open_table(REQUESTS)?;
    let row = requests.get(key(id))?.map(|row| read::<Row>(row.value())).transpose()?;
    let Some(Row { node, presumed: _, standing }) = row else { return Ok((Cast::Gone, None)) };
    let mut ballots = transaction.open_table(BALLOTS)?;
    let mut votes = transaction.open_table(VOTES)?;
    let numbers = numbers(ballots.range((key(id), 0)..=(key(id), u64::MAX))?)?;
    for number in &numbers {
        let Some(before) = votes.get(number)? else { continue };
        let before: Ballot = read(before.value())?;
        let counts = !matches!(before.outcome, Some(Err(_)));
        if counts && same_person(&before.vote.approver, &vote.approver) {
            let is_same = before.vote.answer == vote.answer;
            let number = VoteId(*number);
            return Ok((if is_same { Cast::Already(number) } else { Cast::Otherwise }, None));
        }
    }
    if standing.ended.is_some() {
        return Ok((Cast::Gone, None));
    }
    if numbers.len() >= approval::book::VOTES_MAX {
        return Err(StoreError::Votes);
    }
    let mut meta = transaction.open_table(META)?;
    let number = meta.get("votes")?.map_or(0, |last| last.value()) + 1;
    meta.insert("votes", number)?;
    let ballot = Ballot { request: id, node: node.clone(), vote: vote.clone(), outcome: None };
    votes.insert(number, serde_json::to_vec(&ballot)?.as_slice())?;
    ballots.insert((key(id), number), ())?;
    transaction.open_table(DUE)?.insert((node.as_str(), number), ())?;
    Ok((Cast::Kept(VoteId(number)), Some(node)))
}

/// How far a vote is.
pub(super) fn progress(
    transaction: &ReadTransaction,
    VoteId(number): VoteId,
) -> Result<Progress, StoreError> {
    let votes = transaction.open_table(VOTES)?;
    let ballot = votes.get(number)?.map(|ballot| read::<Ballot>(ballot.value())).transpose()?;
    Ok(match ballot.and_then(|ballot| ballot.outcome) {
        Some(outcome) => Progress::Settled(outcome),
        None => Progress::Waiting,
    })
}

/// Requests, newest first.
pub(super) fn list(
    transaction: &ReadTransaction,
    which: Which,
    most: usize,
) -> Result<Vec<Standing>, StoreError> {
    let requests = transaction.open_table(REQUESTS)?;
    let mut listed = Vec::new();
    if which == Which::Waiting {
        let mut ids = ids(transaction.open_table(WAITING)?.iter()?)?;
        ids.sort_unstable_by(|one, other| other.cmp(one));
        for id in ids.into_iter().take(most) {
            listed.extend(stand(transaction, id)?);
        }
        return Ok(listed);
    }
    for entry in requests.iter()?.rev() {
        if listed.len() >= most {
            break;
        }
        let (id, row) = entry?;
        let Row { standing, .. } = read(row.value())?;
        if which == Which::All || standing.ended.is_some() {
            listed.extend(stand(transaction, id.value())?);
        }
    }
    Ok(listed)
}

/// One request.
pub(super) fn show(
    transaction: &ReadTransaction,
    id: RequestId,
) -> Result<Option<Standing>, StoreError> {
    stand(transaction, key(id))
}

/// Ends what expired before `late_us`, forgets what was over before `old_us`; answers which, and how many.
pub(super) fn sweep(
    transaction: &WriteTransaction,
    late_us: i64,
    old_us: i64,
) -> Result<(Vec<RequestId>, u64), StoreError> {
    let mut requests = transaction.open_table(REQUESTS)?;
    let mut waiting = transaction.open_table(WAITING)?;
    let all: Vec<(String, u128)> = waiting
        .iter()?
        .map(|entry| entry.map(|(at, _)| (at.value().0.to_owned(), at.value().1)))
        .collect::<Result<_, _>>()?;
    let mut ended = Vec::new();
    for (node, id) in all {
        let row = requests.get(id)?.map(|row| read::<Row>(row.value())).transpose()?;
        if let Some(mut row) = row.filter(|row| row.standing.request.expires_us < late_us) {
            let expired_us = row.standing.request.expires_us;
            presume(&mut row, expired_us);
            requests.insert(id, serde_json::to_vec(&row)?.as_slice())?;
            waiting.remove((node.as_str(), id))?;
            ended.push(row.standing.request.id);
        }
    }
    let mut over = requests.len()?.saturating_sub(REQUESTS_MAX);
    let mut forgotten = Vec::new();
    // Ids sort by time.
    for entry in requests.iter()?.take(SWEPT_MAX) {
        let (id, row) = entry?;
        let Row { standing, .. } = read(row.value())?;
        let is_old = standing.request.at_us < old_us;
        if !is_old && over == 0 {
            break;
        }
        if standing.ended.is_some() {
            forgotten.push(id.value());
            over = over.saturating_sub(1);
        }
    }
    for id in &forgotten {
        requests.remove(id)?;
        forget_votes(transaction, *id)?;
    }
    Ok((ended, u64::try_from(forgotten.len()).unwrap_or(u64::MAX)))
}

fn forget_votes(transaction: &WriteTransaction, id: u128) -> Result<(), StoreError> {
    let mut ballots = transaction.open_table(BALLOTS)?;
    let mut votes = transaction.open_table(VOTES)?;
    let mut due = transaction.open_table(DUE)?;
    for number in numbers(ballots.range((id, 0)..=(id, u64::MAX))?)? {
        ballots.remove((id, number))?;
        let Some(ballot) = votes.remove(number)? else { continue };
        let Ballot { node, .. } = read(ballot.value())?;
        due.remove((node.as_str(), number))?;
    }
    Ok(())
}

/// A request with its votes that wait for its host.
fn stand(transaction: &ReadTransaction, id: u128) -> Result<Option<Standing>, StoreError> {
    let requests = transaction.open_table(REQUESTS)?;
    let Some(row) = requests.get(id)? else { return Ok(None) };
    let Row { mut standing, .. } = read(row.value())?;
    let (ballots, votes) = (transaction.open_table(BALLOTS)?, transaction.open_table(VOTES)?);
    for number in numbers(ballots.range((id, 0)..=(id, u64::MAX))?)? {
        let Some(ballot) = votes.get(number)? else { continue };
        let Ballot { vote, outcome, .. } = read(ballot.value())?;
        let mut known = standing.votes.iter();
        if outcome.is_none() && !known.any(|known| same_person(&known.approver, &vote.approver)) {
            standing.votes.push(vote);
        }
    }
    Ok(Some(standing))
}

/// Has a request end that its host does not speak of any more.
fn presume(row: &mut Row, at_us: i64) {
    let Row { node: _, presumed, standing } = row;
    let is_late = standing.request.expires_us <= at_us;
    let how = if is_late { Ending::Expired } else { Ending::Restarted };
    *presumed = true;
    standing.ended = Some(Over { how, reason: None, at_us });
}

fn key(id: RequestId) -> u128 {
    u128::from_be_bytes(*id.as_bytes())
}

fn of_node(node: &str) -> std::ops::RangeInclusive<(&str, u128)> {
    (node, 0)..=(node, u128::MAX)
}

fn ids(range: redb::Range<'_, (&'static str, u128), ()>) -> Result<Vec<u128>, StoreError> {
    Ok(range.map(|entry| entry.map(|(at, _)| at.value().1)).collect::<Result<_, _>>()?)
}

fn numbers(range: redb::Range<'_, (u128, u64), ()>) -> Result<Vec<u64>, StoreError> {
    Ok(range.map(|entry| entry.map(|(at, _)| at.value().1)).collect::<Result<_, _>>()?)
}

fn read<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, StoreError> {
    Ok(serde_json::from_slice(bytes)?)
}
