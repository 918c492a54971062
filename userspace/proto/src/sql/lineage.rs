//! Which base columns values come from: flows, relations and the scopes names are looked up in.
//!
//! Without a catalog, a base table may have any column; so an unqualified name is attributed to every
//! table it may belong to, and a name that belongs nowhere is opaque.

use std::collections::BTreeSet;
use std::rc::Rc;

use types::command::{ColumnName, Output, TableName};

/// The most base columns one flow names; more are opaque. Bounds the work per expression node, so
/// that a statement of 2^18 tokens costs at most 2^26 insertions.
const FLOW_COLUMNS_MAX: usize = 256;

/// Where values come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    opaque: bool,
    columns: BTreeSet<ColumnName>,
}

impl Flow {
    /// Values of which nothing is known.
    pub(super) fn opaque() -> Self {
        Self { opaque: true, columns: BTreeSet::new() }
    }

    /// The values of one base column.
    pub(super) fn column(table: &TableName, column: &str) -> Self {
        let column = ColumnName { table: table.clone(), column: column.into() };
        Self { opaque: false, columns: BTreeSet::from([column]) }
    }

    /// Adds another flow's sources.
    pub(super) fn add(&mut self, mut other: Self) {
        if other.columns.len() > self.columns.len() {
            std::mem::swap(&mut self.columns, &mut other.columns);
        }
        self.opaque |= other.opaque;
        self.columns.extend(other.columns);
        if self.columns.len() > FLOW_COLUMNS_MAX {
            *self = Self::opaque();
        }
    }

    /// This flow and another.
    pub(super) fn with(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    fn output(&self) -> Output {
        if self.opaque {
            Output::Opaque
        } else {
            Output::Columns(self.columns.iter().cloned().collect())
        }
    }
}

/// A named column of a derived relation; without a name it may have any.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: Option<String>,
    pub(super) flow: Flow,
}

/// Rows: a base table's, a query's, a function's.
#[derive(Clone, Debug, Default)]
pub(super) struct Relation {
    columns: Vec<Column>,
    base: Option<TableName>,
    sources: Vec<Rc<Relation>>,
    rest: Option<Flow>,
    all: Flow,
}

impl Relation {
    /// A base table, of which only the name is known.
    pub(super) fn base(table: TableName) -> Self {
        Self { all: Flow::column(&table, "*"), base: Some(table), ..Self::default() }
    }

    /// Rows of unknown columns, all of which come from `flow`.
    pub(super) fn unknown(flow: Flow) -> Self {
        Self { all: flow.clone(), rest: Some(flow), ..Self::default() }
    }

    /// Adds a column.
    pub(super) fn push(&mut self, name: Option<String>, flow: Flow) {
        self.all.add(flow.clone());
        self.columns.push(Column { name, flow });
    }

    /// Adds all columns of another relation, whatever they are.
    pub(super) fn include(&mut self, source: &Rc<Relation>) {
        self.all.add(source.all.clone());
        self.sources.push(Rc::clone(source));
    }

    /// Adds columns that are not known, all of which come from `flow`.
    pub(super) fn include_unknown(&mut self, flow: Flow) {
        self.all.add(flow.clone());
        self.rest.get_or_insert_default().add(flow);
    }

    /// Adds `flow` to the column of this name of a base table (it was assigned to).
    pub(super) fn assign(&mut self, name: &str, flow: Flow) {
        let own = self.base.as_ref().map(|table| Flow::column(table, name)).unwrap_or_default();
        self.push(Some(name.to_owned()), own.with(flow));
    }

    /// Where a whole row's values come from.
    pub(super) fn all(&self) -> Flow {
        self.all.clone()
    }

    /// Whether its columns are exactly the listed ones.
    fn is_closed(&self) -> bool {
        self.base.is_none() && self.sources.is_empty() && self.rest.is_none()
    }

    /// Its columns' origins; `None` where their number is not known.
    pub(super) fn outputs(&self) -> Option<Vec<Output>> {
        self.is_closed().then(|| self.columns.iter().map(|column| column.flow.output()).collect())
    }

    /// The same rows with the first columns renamed.
    pub(super) fn renamed(&self, names: &[&str]) -> Self {
        if names.is_empty() {
            return self.clone();
        }
        if !self.is_closed() {
            let mut renamed = Self::unknown(self.all.clone());
            for name in names {
                renamed.push(Some((*name).to_owned()), self.all.clone());
            }
            return renamed;
        }
        let mut renamed = self.clone();
        for (column, name) in renamed.columns.iter_mut().zip(names) {
            column.name = Some((*name).to_owned());
        }
        renamed
    }

    /// The same columns, each of which may hold what any of them holds.
    pub(super) fn blended(mut self) -> Self {
        for column in &mut self.columns {
            column.flow = self.all.clone();
        }
        if !self.is_closed() {
            self.rest = Some(self.all.clone());
        }
        self
    }

    /// The rows of either, under the names of this.
    pub(super) fn union(&self, other: &Self) -> Self {
        if self.is_closed() && other.is_closed() && self.columns.len() == other.columns.len() {
            let mut union = Self::default();
            for (left, right) in self.columns.iter().zip(&other.columns) {
                union.push(left.name.clone(), left.flow.clone().with(right.flow.clone()));
            }
            return union;
        }
        let all = other.all.clone();
        let mut union =
            Self { sources: self.sources.clone(), base: self.base.clone(), ..Self::default() };
        for column in &self.columns {
            union.push(column.name.clone(), column.flow.clone().with(all.clone()));
        }
        union.include_unknown(self.rest.clone().unwrap_or_default().with(all));
        union.all.add(self.all.clone());
        union
    }

    /// Where the column of this name comes from, if there may be one. `steps` bounds the search
    /// through nested `*`; when they run out the answer is opaque.
    fn find(&self, name: &str, steps: &mut u32) -> Option<Found> {
        let Some(left) = steps.checked_sub(1) else {
            return Some(Found { flow: Flow::opaque(), certain: false });
        };
        *steps = left;
        let mut found: Option<Found> = None;
        let mut add = |flow: Flow, certain: bool| {
            let found = found.get_or_insert_default();
            found.flow.add(flow);
            found.certain |= certain;
        };
        let named = |column: &&Column| column.name.as_deref().is_none_or(|own| own == name);
        for column in self.columns.iter().filter(named) {
            add(column.flow.clone(), column.name.is_some());
        }
        if let Some(table) = &self.base {
            add(Flow::column(table, name), false);
        }
        for source in &self.sources {
            if let Some(Found { flow, certain }) = source.find(name, steps) {
                add(flow, certain);
            }
        }
        if let Some(rest) = &self.rest {
            add(rest.clone(), false);
        }
        found
    }
}

#[derive(Debug, Default)]
struct Found {
    flow: Flow,
    certain: bool,
}

/// One relation that names can be looked up in.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The name it goes by.
    pub(super) alias: String,
    /// Its schema, where that was written and no alias hides it.
    pub(super) schema: Option<String>,
    /// Its rows.
    pub(super) relation: Rc<Relation>,
    /// Whether `*` and unqualified names reach it; a second name for the same rows does not.
    pub(super) primary: bool,
}

impl Item {
    /// A relation under a name.
    pub(super) fn new(alias: &str, relation: Rc<Relation>) -> Self {
        Self { alias: alias.to_owned(), schema: None, relation, primary: true }
    }

    /// A further name for rows that another item holds already.
    pub(super) fn secondary(alias: &str, relation: Rc<Relation>) -> Self {
        Self { primary: false, ..Self::new(alias, relation) }
    }
}

/// The relations in scope, one level per nested query, innermost last.
#[derive(Debug)]
pub(super) struct Scopes {
    levels: Vec<Vec<Item>>,
    steps: u32,
}

impl Default for Scopes {
    fn default() -> Self {
        Self { levels: Vec::new(), steps: 1 << 20 }
    }
}

impl Scopes {
    /// Opens a nested query.
    pub(super) fn open(&mut self) {
        self.levels.push(Vec::new());
    }

    /// Closes the innermost query.
    pub(super) fn close(&mut self) {
        self.levels.pop();
    }

    /// Adds a relation to the innermost query.
    pub(super) fn push(&mut self, item: Item) {
        if let Some(level) = self.levels.last_mut() {
            level.push(item);
        }
    }

    /// The relations of the innermost query; empties it.
    pub(super) fn take(&mut self) -> Vec<Item> {
        self.levels.last_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Puts relations (back) into the innermost query, before those already there.
    pub(super) fn restore(&mut self, mut items: Vec<Item>) {
        if let Some(level) = self.levels.last_mut() {
            items.append(level);
            *level = items;
        }
    }

    /// The relations that `*` stands for.
    pub(super) fn star(&self) -> Vec<Rc<Relation>> {
        let items = self.levels.last().into_iter().flatten();
        items.filter(|item| item.primary).map(|item| Rc::clone(&item.relation)).collect()
    }

    /// The relation that goes by `name` (and `schema`, where given).
    pub(super) fn relation(&self, schema: Option<&str>, name: &str) -> Option<Rc<Relation>> {
        let mut items = self.levels.iter().rev().flatten();
        let item = items.find(|item| {
            item.alias == name && (schema.is_none() || item.schema.as_deref() == schema)
        })?;
        Some(Rc::clone(&item.relation))
    }

    /// Where a column named without its relation comes from. A relation's own name is its whole row.
    pub(super) fn unqualified(&mut self, name: &str) -> Flow {
        let mut flow: Option<Flow> = None;
        for level in self.levels.iter().rev() {
            let mut certain = false;
            for item in level {
                if item.alias == name {
                    flow.get_or_insert_default().add(item.relation.all());
                    certain = true;
                } else if item.primary
                    && let Some(found) = item.relation.find(name, &mut self.steps)
                {
                    flow.get_or_insert_default().add(found.flow);
                    certain |= found.certain;
                }
            }
            if certain {
                break;
            }
        }
        flow.unwrap_or_else(Flow::opaque)
    }

    /// Where a relation's column comes from.
    pub(super) fn qualified(&mut self, relation: &Relation, name: &str) -> Flow {
        let flow =
            relation.find(name, &mut self.steps).map_or_else(Flow::opaque, |found| found.flow);
        if super::functions::takes_row(name) { flow.with(relation.all()) } else { flow }
    }
}
