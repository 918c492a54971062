//! A host without agents: a journal, a book, and the link that the daemon has.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use approval::Event;
use approval::request::{ApprovalRequest, Reached, Requester, Wants};
use approval::shown::shown_sha256;
use hub::client::{Address, Credentials};
use hub::link::{Link, LinkRules};
use integration::certificates::Certificates;
use journal::clock::SystemClock;
use journal::reader::Reader;
use journal::record::{Lsn, Record};
use journal::recorder::{Options, Recorder, Reserve};
use proxy::approvals::Approvals;
use tempfile::TempDir;
use types::approval::Coverage;
use types::clock::Clock;
use types::id::RequestId;

#[path = "../../../userspace/daemon/src/link/here.rs"]
mod here;

/// A host.
pub(crate) struct SimulatedHost {
    name: String,
    approvals: Arc<Approvals>,
    recorder: Recorder,
    link: Arc<Link>,
    journal: TempDir,
}

/// What a journal has of one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) votes: u32,
    pub(crate) grants: u32,
}

impl SimulatedHost {
    /// Starts one, with its link to these hubs.
    pub(crate) fn start(name: &str, files: &Certificates, hubs: &[String]) -> Result<Self> {
        let journal = tempfile::tempdir().context("no temporary folder")?;
        let mut options = Options::new(journal.path(), name, 1);
        options.reserve = Reserve { percent: 0, bytes: 0 };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (recorder, _) = Recorder::open(&options, Arc::clone(&clock), Box::new(|_| {}))?;
        let approvals = Approvals::new(recorder.clone(), Arc::clone(&clock), name, &[7; 32]);
        let approvals = Arc::new(approvals);
        let rules = LinkRules {
            node: name.to_owned(),
            hubs: hubs.iter().map(|hub| Address::new(hub)).collect::<Result<_, _>>()?,
            credentials: Credentials {
                certificate: files.path(&format!("{name}.crt")),
                key: files.path(&format!("{name}.key")),
                hubs_ca: files.path("bank.crt"),
            },
        };
        let here = here::Here { approvals: Arc::clone(&approvals), recorder: recorder.clone() };
        let link = Arc::new(Link::new(rules, Arc::new(here), clock));
        let running = Arc::clone(&link);
        tokio::spawn(async move { running.run().await });
        Ok(Self { name: name.to_owned(), approvals, recorder, link, journal })
    }

    /// Has a command wait; answers its id, and what is shown of it.
    pub(crate) fn ask(&self, number: usize) -> Result<(RequestId, String)> {
        let now = SystemClock.now();
        let mut random = [0; 10];
        random[..8].copy_from_slice(&number.to_be_bytes());
        let mut request = ApprovalRequest {
            id: RequestId::new(now, random),
            node: self.name.clone(),
            at_us: now.unix_us,
            expires_us: now.unix_us + 600_000_000,
            session: "0190aaaa-0000-7000-8000-000000000000".into(),
            command: u32::try_from(number).unwrap_or(u32::MAX),
            requester: Requester { agent: "clerk".into(), ..Requester::default() },
            target: Reached { name: "bank".into(), ..Reached::default() },
            kind: "db.query".into(),
            verb: "DELETE".into(),
            accesses: vec!["delete public.transfers".into()],
            risks: Vec::new(),
            normalized: "DELETE FROM transfers WHERE id = $1".into(),
            text: format!("DELETE FROM transfers WHERE id = {number}"),
            parameters: Vec::new(),
            is_masked: false,
            rows_estimated: None,
            transaction: "none".into(),
            reason: "deletes money".into(),
            policy_digest: "0".into(),
            terms: vec![Wants {
                policy: "ask".into(),
                groups: vec!["dba".into()],
                people: 1,
                break_glass: Vec::new(),
            }],
            covers: Coverage::Command,
            grant_s: 600,
            binding: number.to_string(),
            pattern: "p".into(),
            shown_sha256: String::new(),
        };
        request.shown_sha256 = shown_sha256(&request);
        let asked = (request.id, request.shown_sha256.clone());
        self.approvals.ask(request)?;
        Ok(asked)
    }

    /// Whether it is at a hub.
    pub(crate) fn is_connected(&self) -> bool {
        self.link.status().hub.is_some()
    }

    /// Requests that nobody answered yet.
    pub(crate) fn waiting(&self) -> usize {
        self.approvals.with(approval::Book::waiting)
    }

    /// Requests that no hub was told the end of yet.
    pub(crate) fn backlog(&self) -> usize {
        self.link.status().backlog
    }

    /// What the journal has of each request.
    pub(crate) fn journal(&self) -> Result<HashMap<RequestId, Seen>> {
        self.recorder.settle()?;
        let mut reader = Reader::open(self.journal.path(), Lsn(0), Some(self.recorder.durable()))?;
        let mut seen: HashMap<RequestId, Seen> = HashMap::new();
        while let Some(frame) = reader.next_frame()? {
            let Some(Record::Control(entry)) = frame.record()? else { continue };
            match Event::read(&entry.kind, &entry.detail) {
                Some(Event::Requested(request)) => drop(seen.entry(request.id).or_default()),
                Some(Event::Voted { request, .. }) => seen.entry(request).or_default().votes += 1,
                Some(Event::Granted(grant)) => seen.entry(grant.id).or_default().grants += 1,
                _ => {}
            }
        }
        Ok(seen)
    }
}
