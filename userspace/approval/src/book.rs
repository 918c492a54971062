//! All requests and grants of one desk.
//!
//! Methods that answer events change nothing: the events are written down, then applied. Applying is total
//! and idempotent, so a book is rebuilt from what was written, whatever was written twice or is missing.

mod terms;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use types::approval::Coverage;
use types::id::RequestId;

use crate::desk::{Over, Standing, Which};
use crate::event::{Ending, Event};
use crate::four_eyes::{involved, same_person};
use crate::request::{ApprovalRequest, Grant, Wanted};
use crate::vote::{Answer, REASON_BYTES_MAX, Vote, VoteError, Voted};

/// Requests that wait at once: as many as there may be sessions on a host, each holding one command.
pub const WAITING_MAX: usize = 10_000;

/// What their texts and parameters may hold together: 10,000 of 6 KiB, or 1,000 of the 64 KiB that one may have.
pub const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Requests that are over and kept to be looked at, without their texts: 4,096 × about 3 KiB = 12 MiB.
pub const OVER_KEPT: usize = 4_096;

/// Votes on one request: more than any terms ask for.
pub const VOTES_MAX: usize = 64;

/// Grants alive at once; the oldest go first beyond that, which only means to ask again.
pub const GRANTS_MAX: usize = 16_384;

/// All requests and grants of one desk.
#[derive(Debug, Default)]
pub struct Book {
    waiting: BTreeMap<RequestId, Standing>,
    waiting_bytes: usize,
    over: BTreeMap<RequestId, Standing>,
    /// In the order in which they ended.
    over_order: VecDeque<RequestId>,
    grants: BTreeMap<RequestId, Grant>,
}

/// Why a request can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Of requests.
    #[error("{WAITING_MAX} commands wait for approval already")]
    Requests,
    /// Of their texts.
    #[error("the commands that wait for approval hold {WAITING_BYTES_MAX} bytes already")]
    Bytes,
}

impl Book {
    /// Whether one more request of this size finds room.
    ///
    /// # Errors
    /// If not.
    pub fn room(&self, request: &ApprovalRequest) -> Result<(), Full> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(Full::Requests);
        }
        if self.waiting_bytes + held_bytes(request) > WAITING_BYTES_MAX {
            return Err(Full::Bytes);
        }
        Ok(())
    }

    /// A grant that covers a command, and the event of its use.
    pub fn spend(&self, wanted: &Wanted<'_>, command: u32, now_us: i64) -> Option<(Grant, Event)> {
        let grant = self.grants.values().find(|grant| {
            // What was approved as this very command is released when it is, and by nothing else.
            grant.covers != Coverage::Command && grant.covers(wanted, now_us)
        })?;
        Some((grant.clone(), spent(grant, wanted.session, command, now_us)))
    }

    /// The event of the use of a request's own grant by the command that waited for it; `None` where there is
    /// none, it is used, or it is over.
    pub fn release(&self, id: RequestId, now_us: i64) -> Option<(Grant, Event)> {
        let grant =
            self.grants.get(&id).filter(|grant| grant.spent == 0 && now_us < grant.expires_us)?;
        let command = self.standing(id)?.request.command;
        Some((grant.clone(), spent(grant, &grant.session, command, now_us)))
    }

    /// What follows from a vote: nothing where the same was said before.
    ///
    /// # Errors
    /// If it does not count.
    pub fn vote(&self, id: RequestId, vote: &Vote) -> Result<(Voted, Vec<Event>), VoteError> {
        let standing = self.standing(id).ok_or(VoteError::NotFound)?;
        let Standing { request, votes, grant: _, ended } = standing;
        if let Some(before) =
            votes.iter().find(|before| same_person(&before.approver, &vote.approver))
        {
            let is_same = before.answer == vote.answer;
            return if is_same {
                Ok((Voted::Already, Vec::new()))
            } else {
                Err(VoteError::Otherwise)
            };
        }
        if let Some(over) = ended {
            return Err(VoteError::Over(over.how));
        }
        if vote.at_us >= request.expires_us {
            return Err(VoteError::Over(Ending::Expired));
        }
        Self::check(request, vote)?;
        let voted = Event::Voted { request: id, vote: vote.clone() };
        let at_us = vote.at_us;
        let reason = Some(vote.reason.clone()).filter(|reason| !reason.is_empty());
        Ok(match vote.answer {
            Answer::Deny => {
                let how = Ending::Refused;
                (Voted::Refused, vec![voted, Event::Ended { request: id, how, reason, at_us }])
            }
            Answer::BreakGlass => {
                let granted = granted(request, [vote].into_iter(), true, at_us);
                (Voted::Granted, vec![voted, granted])
            }
            Answer::Approve => {
                let approving = || {
                    let before = votes.iter().filter(|before| before.answer == Answer::Approve);
                    before.chain([vote])
                };
                let people: Vec<_> = approving().map(|vote| &vote.approver).collect();
                if terms::are_met(&request.terms, &people) {
                    let granted = granted(request, approving(), false, at_us);
                    (Voted::Granted, vec![voted, granted])
                } else {
                    (Voted::Counted, vec![voted])
                }
            }
        })
    }

    /// The events of all requests that nobody answered in time.
    pub fn expired(&self, now_us: i64) -> Vec<Event> {
        let late = self.waiting.values().filter(|standing| now_us >= standing.request.expires_us);
        late.map(|standing| ended(standing.request.id, Ending::Expired, now_us)).collect()
    }

    /// The event that ends a request that waits; `None` if none does by that id.
    pub fn end(&self, id: RequestId, how: Ending, now_us: i64) -> Option<Event> {
        self.waiting.contains_key(&id).then(|| ended(id, how, now_us))
    }

    /// The events that end everything that waits: after a restart nobody is there for it.
    pub fn restarted(&self, now_us: i64) -> Vec<Event> {
        self.waiting.keys().map(|id| ended(*id, Ending::Restarted, now_us)).collect()
    }

    /// The next moment at which something expires, microseconds since 1970 UTC.
    pub fn next_expiry_us(&self) -> Option<i64> {
        self.waiting.values().map(|standing| standing.request.expires_us).min()
    }

    /// A request, waiting or over.
    pub fn standing(&self, id: RequestId) -> Option<&Standing> {
        self.waiting.get(&id).or_else(|| self.over.get(&id))
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Since when the oldest of them does, microseconds since 1970 UTC.
    pub fn waiting_since_us(&self) -> Option<i64> {
        self.waiting.values().map(|standing| standing.request.at_us).min()
    }

    /// How many that are over are kept.
    pub fn over(&self) -> usize {
        self.over.len()
    }

    /// All that waits.
    pub fn all_waiting(&self) -> impl Iterator<Item = &Standing> {
        self.waiting.values()
    }

    /// All that is over and kept.
    pub fn all_over(&self) -> impl Iterator<Item = &Standing> {
        self.over.values()
    }

    /// Requests, newest first, at most `most`.
    pub fn list(&self, which: Which, most: usize) -> Vec<Standing> {
        self.look(which, most).into_iter().cloned().collect()
    }

    /// The same, to be looked at.
    pub fn look(&self, which: Which, most: usize) -> Vec<&Standing> {
        let (waiting, over) = match which {
            Which::Waiting => (true, false),
            Which::Over => (false, true),
            Which::All => (true, true),
        };
        let waiting = self.waiting.values().rev().filter(|_| waiting);
        // What ended is kept by id; ids sort by time.
        let over = self.over.values().rev().filter(|_| over);
        let mut listed: Vec<&Standing> = waiting.chain(over).collect();
        listed.sort_by_key(|standing| std::cmp::Reverse(standing.request.id));
        listed.truncate(most);
        listed
    }

    /// Requests that are over and were alike, newest first: the same statement without literals, by the same agent,
    /// whichever start of it, at the same target.
    pub fn alike(&self, request: &ApprovalRequest, most: usize) -> Vec<Standing> {
        let over = self.over.values().rev();
        let alike = over.filter(|standing| {
            let past = &standing.request;
            past.normalized == request.normalized
                && past.requester.agent == request.requester.agent
                && past.target.name == request.target.name
        });
        alike.take(most).cloned().collect()
    }

    /// Grants that may still be used.
    pub fn grants(&self, now_us: i64) -> impl Iterator<Item = &Grant> {
        self.grants.values().filter(move |grant| is_usable(grant, now_us))
    }

    /// Takes what was written down.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Requested(request) => self.requested(request),
            Event::Voted { request, vote } => {
                let standing = self.waiting.get_mut(request).or_else(|| self.over.get_mut(request));
                if let Some(Standing { votes, .. }) = standing
                    && votes.len() < VOTES_MAX
                    && !votes.iter().any(|before| same_person(&before.approver, &vote.approver))
                {
                    votes.push(vote.clone());
                }
            }
            Event::Granted(grant) => {
                self.is_over(grant.id, Some(grant), Ending::Granted, None, grant.at_us);
                self.grants.entry(grant.id).or_insert_with(|| grant.clone());
                self.forget_grants(grant.at_us);
            }
            Event::Spent { grant, at_us: _, session: _, command: _ } => {
                if let Some(grant) = self.grants.get_mut(grant) {
                    grant.spent = grant.spent.saturating_add(1);
                }
                let spent = self.grants.get(grant).map(|grant| grant.spent);
                if let (Some(spent), Some(Standing { grant: Some(shown), .. })) =
                    (spent, self.over.get_mut(grant))
                {
                    shown.spent = spent;
                }
            }
            Event::Ended { request, how, reason, at_us } => {
                self.is_over(*request, None, *how, reason.clone(), *at_us);
            }
        }
    }

    fn check(request: &ApprovalRequest, vote: &Vote) -> Result<(), VoteError> {
        let Vote { approver, answer, reason, at_us: _, way: _, from: _, shown_sha256 } = vote;
        let needs_reason = *answer != Answer::Approve;
        if reason.len() > REASON_BYTES_MAX || (needs_reason && reason.trim().is_empty()) {
            return Err(VoteError::Reason);
        }
        if *shown_sha256 != request.shown_sha256 {
            return Err(VoteError::ShownDiffers);
        }
        if let Some(how) = involved(&request.requester, approver) {
            return Err(VoteError::Involved(how));
        }
        let groups = |of: fn(&crate::request::Wants) -> &Vec<String>| {
            request.terms.iter().flat_map(of).cloned().collect::<Vec<_>>()
        };
        let is_in = |groups: &[String]| groups.iter().any(|group| approver.groups.contains(group));
        match answer {
            Answer::BreakGlass => {
                // Of several policies, each must grant it.
                let may = request.terms.iter().all(|wants| is_in(&wants.break_glass));
                let all = || groups(|wants| &wants.break_glass).join(", ");
                if may { Ok(()) } else { Err(VoteError::NotBreaker(named(all()))) }
            }
            Answer::Approve | Answer::Deny => {
                let may = request.terms.iter().any(|wants| is_in(&wants.groups));
                let all = || groups(|wants| &wants.groups).join(", ");
                if may { Ok(()) } else { Err(VoteError::NotApprover(named(all()))) }
            }
        }
    }

    fn requested(&mut self, request: &ApprovalRequest) {
        let id = request.id;
        if self.standing(id).is_some() {
            return;
        }
        self.waiting_bytes += held_bytes(request);
        let request = request.clone();
        let standing = Standing { request, votes: Vec::new(), grant: None, ended: None };
        self.waiting.insert(id, standing);
    }

    fn is_over(
        &mut self,
        id: RequestId,
        grant: Option<&Grant>,
        how: Ending,
        reason: Option<String>,
        at_us: i64,
    ) {
        let Some(mut standing) = self.waiting.remove(&id) else { return };
        self.waiting_bytes = self.waiting_bytes.saturating_sub(held_bytes(&standing.request));
        standing.grant = grant.cloned();
        standing.ended = Some(Over { how, reason, at_us });
        // What was asked is in the archive; here it would hold values for longer than they are needed.
        (standing.request.text, standing.request.parameters) = (String::new(), Vec::new());
        standing.request.requester.command_line = None;
        self.over.insert(id, standing);
        self.over_order.push_back(id);
        while self.over_order.len() > OVER_KEPT {
            if let Some(oldest) = self.over_order.pop_front() {
                self.over.remove(&oldest);
            }
        }
    }

    fn forget_grants(&mut self, now_us: i64) {
        if self.grants.len() > GRANTS_MAX / 2 {
            self.grants.retain(|_, grant| is_usable(grant, now_us));
        }
        while self.grants.len() > GRANTS_MAX {
            self.grants.pop_first();
        }
    }
}

fn is_usable(grant: &Grant, now_us: i64) -> bool {
    let left = match grant.covers {
        Coverage::Command => grant.spent == 0,
        Coverage::Alike(times) => grant.spent < times,
        Coverage::Session => true,
    };
    left && now_us < grant.expires_us
}

fn granted<'v>(
    request: &ApprovalRequest,
    votes: impl Iterator<Item = &'v Vote>,
    broken_glass: bool,
    at_us: i64,
) -> Event {
    Event::Granted(Grant {
        id: request.id,
        at_us,
        expires_us: at_us.saturating_add(i64::from(request.grant_s) * 1_000_000),
        // An emergency is over when the command is.
        covers: if broken_glass { Coverage::Command } else { request.covers },
        binding: request.binding.clone(),
        pattern: request.pattern.clone(),
        session: request.session.clone(),
        accesses: request.accesses.clone(),
        policies: request.terms.iter().map(|wants| wants.policy.clone()).collect(),
        approvers: votes.map(|vote| vote.approver.key()).collect(),
        broken_glass,
        spent: 0,
    })
}

fn spent(grant: &Grant, session: &str, command: u32, at_us: i64) -> Event {
    Event::Spent { grant: grant.id, session: session.to_owned(), command, at_us }
}

fn ended(request: RequestId, how: Ending, at_us: i64) -> Event {
    Event::Ended { request, how, reason: None, at_us }
}

fn held_bytes(request: &ApprovalRequest) -> usize {
    request.text.len() + request.parameters.iter().map(String::len).sum::<usize>()
}

fn named(groups: String) -> String {
    if groups.is_empty() { "nobody".to_owned() } else { groups }
}
