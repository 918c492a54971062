//! The values of the text, and bound ones, that flow as columns do ([`crate::sql::met`]).

use std::collections::BTreeSet;

use super::Flow;

impl Flow {
    /// A value of the text, or one that is bound.
    pub(in crate::sql) fn value(number: u32) -> Self {
        Self { values: BTreeSet::from([number]), ..Self::default() }
    }

    /// The values that it may hold, and whether there are more.
    pub(in crate::sql) fn values(&self) -> (&BTreeSet<u32>, bool) {
        (&self.values, self.many)
    }

    /// The same of what is true or false by these values, and none of them.
    pub(in crate::sql) fn judged(mut self) -> Self {
        self.values.clear();
        self.many = false;
        self
    }

    pub(super) fn add_values(&mut self, other: &mut Self) {
        if other.values.len() > self.values.len() {
            std::mem::swap(&mut self.values, &mut other.values);
        }
        self.many |= other.many;
        for value in std::mem::take(&mut other.values) {
            if self.values.len() >= FLOW_VALUES_MAX {
                self.many = true;
                break;
            }
            self.values.insert(value);
        }
    }
}

/// The most values one flow has: what bounds the work for each node of an expression, and as many as are recorded.
const FLOW_VALUES_MAX: usize = types::limits::BLIND_TOKENS_MAX;
