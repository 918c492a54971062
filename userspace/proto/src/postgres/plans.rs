//! Plans kept for statements that come again: as other texts of the same analysis, or prepared anew.

use std::sync::Arc;

use types::command::Analysis;
use types::redact::Column;

use super::prepared::Plan;

/// Plans kept, and columns of the widest: 8 × 32 × 150 B (a column, its name and its treatment) are
/// 38 KiB for a session.
const KEPT: usize = 8;
const COLUMNS_MAX: usize = 32;

/// The plans made last, in one epoch.
#[derive(Debug, Default)]
pub(super) struct Plans {
    epoch: u64,
    kept: Vec<Kept>,
    /// The place that is taken next, once all are.
    next: usize,
}

#[derive(Debug)]
struct Kept {
    analysis: Arc<Analysis>,
    columns: Box<[Column]>,
    plan: Arc<Plan>,
}

impl Plans {
    /// The plan made for these columns of a statement of this very analysis, in this epoch.
    pub(super) fn get(
        &self,
        epoch: u64,
        analysis: &Arc<Analysis>,
        columns: &[Column],
    ) -> Option<Arc<Plan>> {
        let kept = self.kept.iter().filter(|_| self.epoch == epoch);
        let mut alike = kept.filter(|kept| Arc::ptr_eq(&kept.analysis, analysis));
        alike.find(|kept| *kept.columns == *columns).map(|kept| Arc::clone(&kept.plan))
    }

    /// Keeps a plan, in the place of the oldest where there is no other.
    pub(super) fn put(
        &mut self,
        epoch: u64,
        analysis: &Arc<Analysis>,
        columns: &[Column],
        plan: &Arc<Plan>,
    ) {
        if columns.len() > COLUMNS_MAX {
            return;
        }
        if self.epoch != epoch {
            self.kept.clear();
            (self.epoch, self.next) = (epoch, 0);
        }
        let analysis = Arc::clone(analysis);
        let kept = Kept { analysis, columns: columns.into(), plan: Arc::clone(plan) };
        match self.kept.get_mut(self.next) {
            Some(oldest) => *oldest = kept,
            None => self.kept.push(kept),
        }
        self.next = (self.next + 1) % KEPT;
    }
}

#[cfg(test)]
mod tests {
    use types::command::Risk;
    use types::redact::Format;

    use super::*;

    fn analysis() -> Arc<Analysis> {
        Arc::new(Analysis::new("SELECT", "", Vec::new(), Risk::empty()))
    }

    fn columns(name: &str, count: usize) -> Vec<Column> {
        let (name, format) = (name.as_bytes().to_vec(), Format::Text);
        vec![Column { name, table_oid: 1, attnum: 1, type_oid: 25, modifier: -1, format }; count]
    }

    #[test]
    fn a_plan_holds_for_its_analysis_its_columns_and_its_epoch() {
        let (mut plans, one, other) = (Plans::default(), analysis(), analysis());
        let plan = Arc::new(Plan::default());
        plans.put(3, &one, &columns("a", 2), &plan);
        assert!(Arc::ptr_eq(&plans.get(3, &one, &columns("a", 2)).unwrap(), &plan));
        assert!(plans.get(3, &other, &columns("a", 2)).is_none(), "equal, but another");
        assert!(plans.get(3, &one, &columns("b", 2)).is_none());
        assert!(plans.get(3, &one, &columns("a", 1)).is_none());
        assert!(plans.get(4, &one, &columns("a", 2)).is_none());
        plans.put(4, &other, &columns("a", 1), &plan);
        assert!(plans.get(3, &one, &columns("a", 2)).is_none());
        assert!(plans.get(4, &one, &columns("a", 2)).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut plans, plan) = (Plans::default(), Arc::new(Plan::default()));
        let all: Vec<_> = (0..=KEPT).map(|_| analysis()).collect();
        for one in &all {
            plans.put(0, one, &columns("a", COLUMNS_MAX), &plan);
        }
        let known = |one: &&Arc<Analysis>| plans.get(0, one, &columns("a", COLUMNS_MAX)).is_some();
        assert_eq!(all.iter().filter(known).count(), KEPT);
        assert!(!known(&&all[0]), "the oldest went");
        plans.put(0, &all[0], &columns("a", COLUMNS_MAX + 1), &plan);
        assert!(plans.get(0, &all[0], &columns("a", COLUMNS_MAX + 1)).is_none());
    }
}
