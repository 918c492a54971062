//! How the canonical form of a batch's rows is put together: of 90 columns half are the same in all rows of a batch or
//! absent in all of them, and what of those stands side by side is encoded once and copied as one.

use super::Values;

/// The steps by which a row of a batch is encoded.
pub(super) struct Plan<'v, 'a> {
    steps: Vec<Step<'v, 'a>>,
    /// What is the same in all rows, one step's behind the other's.
    same: Vec<u8>,
}

enum Step<'v, 'a> {
    /// So much of what is the same in all rows; and how much of that, where any, is not absent behind the columns
    /// of the first version.
    Same { from: usize, to: usize, counts: Option<usize> },
    /// The row's own value, and whether it counts where it is absent.
    Own { values: &'v Values<'a>, counts: bool },
}

impl<'v, 'a> Plan<'v, 'a> {
    /// For `rows` rows of these columns, of which the first version had `first`; each begins with `head`.
    pub(super) fn of(columns: &'v [Values<'a>], first: usize, head: Vec<u8>, rows: usize) -> Self {
        let mut same = head;
        let mut steps = vec![Step::Same { from: 0, to: same.len(), counts: Some(same.len()) }];
        for (at, values) in columns.iter().enumerate() {
            if rows == 0 || !values.is_constant(rows) {
                steps.push(Step::Own { values, counts: at < first });
                continue;
            }
            let start = same.len();
            let is_there = values.put(0, &mut same) || at < first;
            let more = same.len() - start;
            if let Some(Step::Same { from, to, counts }) = steps.last_mut() {
                *to += more;
                if is_there {
                    *counts = Some(*to - *from);
                }
            } else {
                let counts = is_there.then_some(more);
                steps.push(Step::Same { from: start, to: same.len(), counts });
            }
        }
        Self { steps, same }
    }

    /// What is hashed of `row`, in place of what `out` held.
    pub(super) fn put(&self, row: usize, out: &mut Vec<u8>) {
        out.clear();
        let mut end = 0;
        for step in &self.steps {
            match step {
                Step::Same { from, to, counts } => {
                    if let Some(counts) = counts {
                        end = out.len() + counts;
                    }
                    out.extend_from_slice(self.same.get(*from..*to).unwrap_or_default());
                }
                Step::Own { values, counts } => {
                    if values.put(row, out) || *counts {
                        end = out.len();
                    }
                }
            }
        }
        out.truncate(end);
    }
}
