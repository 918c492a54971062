//! The tokens of the values that commands name, where classes have some.

use std::sync::Arc;

use mask::Catalog;
use mask::blind::{self, Blinding};
use proto::sql::plain_constants;
use types::command::{Analysis, BlindTokens, Command};

use super::Ledger;

/// What of the statement executed last gets tokens: prepared statements run many times.
pub(super) struct Known {
    analysis: Arc<Analysis>,
    catalog: Arc<Catalog>,
    blinding: Blinding,
}

impl Ledger<'_> {
    /// Has the values of a command, in a database whose columns are `catalog`'s, recorded with it by their tokens.
    pub(crate) fn blind(&mut self, command: &Command, catalog: &Arc<Catalog>) {
        self.blind = None;
        let Some(keys) = &self.door.blind else { return };
        let classification = self.door.policy.classification();
        let analysis = &command.statement.analysis;
        let known = self.blinding.take().filter(|known| {
            Arc::ptr_eq(&known.analysis, analysis) && Arc::ptr_eq(&known.catalog, catalog)
        });
        let known = known.unwrap_or_else(|| Known {
            analysis: Arc::clone(analysis),
            catalog: Arc::clone(catalog),
            blinding: Blinding::of(classification, catalog, analysis),
        });
        if !known.blinding.is_empty() {
            let plain =
                known.blinding.reads_text().then(|| plain_constants(&command.statement.text));
            let plain = plain.unwrap_or_default();
            let key = keys.current();
            let text = (plain.as_slice(), &**analysis);
            let tokens = known.blinding.tokens((classification, &key), text, &command.parameters);
            self.note(tokens);
        }
        self.blinding = Some(known);
    }

    /// Has values that have names recorded with the next command by their tokens.
    pub(crate) fn blind_named(&mut self, values: impl FnOnce() -> Vec<(Arc<str>, Arc<str>)>) {
        self.blind = None;
        let Some(keys) = &self.door.blind else { return };
        let classification = self.door.policy.classification();
        let tokens = blind::named((classification, &keys.current()), &values());
        self.note(tokens);
    }

    fn note(&mut self, tokens: BlindTokens) {
        let is_some = !tokens.tokens.is_empty() || tokens.is_cut;
        self.blind = is_some.then_some(tokens);
    }
}
