//! What a session knows of its database, for its masks to go by.

use std::sync::Arc;
use std::task::{Context, Poll};

use mask::{Catalog, catalog_query};
use proto::session::Session;
use types::addr::Side;
use types::clock::Timestamp;

use super::Relay;
use crate::catalog_reader::{self, Why};
use crate::knowledge::Step;

impl Relay<'_> {
    /// Before the agent's next bytes are taken: has a catalog sought, by a query of the session's own if
    /// it may ask one.
    pub(super) fn catch_up(&mut self, now: Timestamp) {
        if !self.session.refresh() && self.knowledge.seek(&self.ledger, now, false) == Step::Done {
            self.use_known();
        }
    }

    /// The session asks for a catalog, and waits.
    pub(super) fn want_catalog(&mut self, now: Timestamp) {
        // The server is ready, outside of a transaction.
        self.knowledge.rests(b'I');
        match self.knowledge.seek(&self.ledger, now, true) {
            Step::Wait => {}
            Step::Probe => {
                let classification = self.worker.door.policy.classification();
                self.session.probe(&catalog_query(classification, &self.knowledge.kept()));
            }
            Step::Done => {
                self.use_known();
                self.session.skip_probe();
            }
        }
    }

    pub(super) fn take_catalog(&mut self, rows: Option<&catalog_reader::Rows>, now: Timestamp) {
        let failure = self.session.probe_failure().copied();
        let rows = rows.ok_or_else(|| failure.map_or(Why::Closed, Why::Probe));
        self.knowledge.read(&self.ledger, rows, now);
        self.use_known();
    }

    /// Goes on where waiting for a catalog ended; ready when that moved the session.
    pub(super) fn poll_knowledge(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut moved = Poll::Pending;
        if self.knowledge.poll(cx).is_ready() {
            moved = Poll::Ready(());
            let now = self.worker.door.clock.now();
            if self.session.is_probing() {
                self.want_catalog(now);
            } else if self.knowledge.seek(&self.ledger, now, false) == Step::Done {
                self.use_known();
            }
        }
        if !self.knowledge.is_waiting()
            && !self.session.is_probing()
            && let Some(bytes) = self.held_back.take()
        {
            moved = Poll::Ready(());
            let now = self.worker.door.clock.now();
            self.session.handle_input(Side::Downstream, &bytes, now);
        }
        moved
    }

    /// Has masks go by what is known; they are made anew only for another version of it.
    pub(super) fn use_known(&mut self) {
        let known = self.knowledge.known();
        let unknown = || (Arc::new(Catalog::unknown()), 0);
        let (catalog, version) =
            known.map_or_else(unknown, |known| (Arc::clone(&known.catalog), known.version));
        if self.version != Some(version)
            && let Some(masks) = &self.masks
        {
            self.version = Some(version);
            self.session.set_masks(masks.redactor(Arc::clone(&catalog)), version);
        }
        (self.catalog, self.probed) = (catalog, None);
    }
}
