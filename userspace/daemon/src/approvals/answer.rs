//! What the control socket asks about approvals, answered.

use std::path::Path;

use anyhow::{Context, Result};
use approval::control::{Ask, Told};
use approval::desk::{Standing, Which};
use approval::vote::Answer;
use approval::{Approver, Book, Vote};
use serde::Deserialize as _;
use serde_json::Value;
use types::control::{Check, Response, Verdict};
use types::id::RequestId;

use crate::asker::{Asker, HostUser};
use crate::desk::{Desk, check};

/// Requests in one answer: each about 3 KiB without its texts, 3 MiB.
const LISTED_MAX: usize = 1_000;

/// Past requests that are shown with one.
const ALIKE_SHOWN: usize = 5;

/// A vote as it came.
struct Cast<'a> {
    answer: Answer,
    reason: String,
    shown_sha256: String,
    sudo_uid: Option<u32>,
    token_file: Option<&'a Path>,
}

impl Desk {
    /// Answers what is asked about approvals. May block.
    pub(crate) fn approvals(&self, ask: &Value, tgid: u32) -> Result<Response> {
        let ask = Ask::deserialize(ask).context("it is not understood")?;
        let approvals = self.approvals.desk.approvals();
        let told = match ask {
            Ask::List { which, most } => {
                let (requests, total) = approvals.with(|book| {
                    let listed = book.look(which, most.min(LISTED_MAX)).into_iter();
                    (listed.map(Standing::brief).collect(), count(book, which))
                });
                Told::Requests { requests, total }
            }
            Ask::Show { id } => self.shown(id)?,
            Ask::Vote { id, answer, reason, shown_sha256, sudo_uid, token_file } => {
                let token_file = token_file.as_deref();
                self.vote(id, Cast { answer, reason, shown_sha256, sudo_uid, token_file }, tgid)?
            }
            // Who watches has waited already.
            Ask::Watch { seen: _ } => Told::Changed { seen: *approvals.changes().borrow() },
            Ask::Deliveries { most } => {
                let webhooks = &self.approvals.webhooks;
                let deliveries = webhooks.deliveries(most.min(LISTED_MAX));
                Told::Deliveries { hooks: webhooks.standings(), deliveries }
            }
        };
        Ok(Response::Approvals { told: serde_json::to_value(told)? })
    }

    fn shown(&self, id: RequestId) -> Result<Told> {
        let found = self.approvals.desk.approvals().with(|book| {
            let standing = book.standing(id)?.clone();
            let alike = book.alike(&standing.request, ALIKE_SHOWN + 1);
            Some((standing, alike))
        });
        let (standing, alike) =
            found.context("there is no such request: see `vestibule approvals list --all`")?;
        let alike = alike.into_iter().filter(|other| other.request.id != id).take(ALIKE_SHOWN);
        let alike = alike.map(|other| other.brief()).collect();
        Ok(Told::Shown { standing: Box::new(standing), alike })
    }

    /// Takes the vote of whoever asks: a person with a login on this host, or with a token.
    fn vote(&self, id: RequestId, cast: Cast<'_>, tgid: u32) -> Result<Told> {
        let Cast { answer, reason, shown_sha256, sudo_uid, token_file } = cast;
        let person = HostUser::of(tgid, sudo_uid)?;
        let approver = match token_file {
            Some(file) => self.keeper.voter_by_token(file),
            None => self.keeper.voter(person),
        };
        let by = if token_file.is_some() { "token file" } else { "login" };
        let from = format!("{person} by {by}, {}", Asker::of(tgid));
        let approver = match approver {
            Ok(approver) => approver,
            Err(error) => {
                let detail = serde_json::json!({
                    "request": id, "approver": null, "answer": answer, "way": WAY, "from": from,
                    "reason": format!("{error:#}"),
                });
                let lsn =
                    self.door.recorder.control("approval.vote_refused", &detail.to_string())?;
                self.door.recorder.wait(lsn)?;
                return Err(error);
            }
        };
        let key = Approver::key(&approver);
        let (at_us, way) = (self.door.clock.now().unix_us, WAY.to_owned());
        let vote = Vote { approver, answer, reason, at_us, way, from, shown_sha256 };
        let voted = match self.approvals.desk.take(id, &vote)? {
            Ok(voted) => voted,
            Err(error) => {
                let reason = error.to_string();
                return Ok(Told::NotCounted { approver: key, error, reason });
            }
        };
        let standing =
            self.approvals.desk.approvals().with(|book| book.standing(id).map(Standing::brief));
        let standing = standing.context("the request is forgotten already")?;
        Ok(Told::Voted { voted, approver: key, standing: Box::new(standing) })
    }

    /// How many wait, since when, and how many grants may be used.
    pub(crate) fn approvals_standing(&self) -> (usize, Option<i64>, usize) {
        let now_us = self.door.clock.now().unix_us;
        self.approvals
            .desk
            .approvals()
            .with(|book| (book.waiting(), book.waiting_since_us(), book.grants(now_us).count()))
    }

    /// How approvals and webhooks stand, for `vestibule doctor`. May block.
    pub(crate) fn approvals_checks(&self) -> Vec<Check> {
        let (waiting, oldest_us, grants) = self.approvals_standing();
        let since = oldest_us.map_or_else(String::new, |at_us| {
            format!(", the oldest since {}", types::clock::utc(at_us))
        });
        let told = format!("{waiting} commands wait{since}; {grants} grants may be used");
        let asks = self.approvals.asks;
        let nobody = asks && !self.keeper.knows_people();
        let mut checks = vec![match (asks, nobody) {
            (false, _) => check("approvals", Verdict::Ok, "no policy asks for any"),
            (true, true) => check(
                "approvals",
                Verdict::Fail,
                "policies ask for approval and there is no [[issuer]]: nobody can give any",
            ),
            (true, false) => check("approvals", Verdict::Ok, &told),
        }];
        let webhooks = &self.approvals.webhooks;
        let standings = webhooks.standings();
        for hook in webhooks.hooks() {
            let own = standings.iter().find(|standing| *standing.hook == *hook.name);
            let Some(standing) = own else { continue };
            let name = format!("webhook {}", hook.name);
            let told = format!(
                "{} due, {} delivered, {} given up",
                standing.due, standing.delivered, standing.given_up
            );
            let (verdict, why) = match (hook.check_secret(), &standing.error) {
                (Err(error), _) => (Verdict::Fail, format!(": {error}")),
                (Ok(()), Some(why)) => (Verdict::Warn, format!(": {why}")),
                (Ok(()), None) if standing.given_up > 0 => (Verdict::Warn, String::new()),
                (Ok(()), None) => (Verdict::Ok, String::new()),
            };
            checks.push(check(&name, verdict, &format!("{told}{why}")));
        }
        checks
    }
}

/// What votes by the command line come by.
const WAY: &str = "cli";

fn count(book: &Book, which: Which) -> usize {
    match which {
        Which::Waiting => book.waiting(),
        Which::Over => book.over(),
        Which::All => book.waiting() + book.over(),
    }
}
