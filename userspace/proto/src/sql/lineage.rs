//! Which base columns values come from: flows, relations and the scopes names are looked up in.
//!
//! Without a catalog, a base table may have any column; so an unqualified name is attributed to every
//! table it may belong to, and a name that belongs nowhere is opaque.

mod values;

use std::collections::BTreeSet;
use std::rc::Rc;

use types::command::{ColumnName, Output, TableName};

/// The most base columns one flow names; more are opaque. Bounds the work per expression node, so
/// that a statement of 2^18 tokens costs at most 2^26 insertions.
const FLOW_COLUMNS_MAX: usize = 256;

/// The most outputs a relation is said to have, more than a result can have (1,664 columns:
/// `MaxTupleAttributeNumber`), and the most relations looked into to say so.
const OUTPUTS_MAX: usize = 2_048;

/// Where values come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    /// Of nothing known as well.
    opaque: bool,
    /// Of columns that could not be told.
    lost: bool,
    /// Of its one column, and unchanged.
    plain: bool,
    /// How long it is depends on what it is.
    varies: bool,
    /// It may be of any length.
    grown: bool,
    columns: BTreeSet<ColumnName>,
    /// Values of the text and parameters that it may hold, by their numbers in [`super::met::Met`].
    values: BTreeSet<u32>,
    /// There are more.
    many: bool,
}

impl Flow {
    /// Values of which nothing is known: a function's own.
    pub(super) fn opaque() -> Self {
        Self { opaque: true, ..Self::default() }
    }

    /// Values of columns that could not be told.
    pub(super) fn lost() -> Self {
        Self { opaque: true, lost: true, ..Self::default() }
    }

    /// The values of one base column.
    pub(super) fn column(table: &TableName, column: &str) -> Self {
        let column = ColumnName { table: table.clone(), column: column.into() };
        Self { plain: &*column.column != "*", columns: BTreeSet::from([column]), ..Self::default() }
    }

    /// The columns that it comes from, and whether there may be others.
    pub(super) fn named(&self) -> (&BTreeSet<ColumnName>, bool) {
        (&self.columns, self.lost)
    }

    /// Adds another flow's sources.
    pub(super) fn add(&mut self, mut other: Self) {
        self.add_values(&mut other);
        if other.columns.len() > self.columns.len() {
            std::mem::swap(&mut self.columns, &mut other.columns);
        }
        self.plain = false;
        self.opaque |= other.opaque;
        self.lost |= other.lost;
        self.sized(other.varies, other.grown);
        self.columns.extend(other.columns);
        if self.columns.len() > FLOW_COLUMNS_MAX {
            self.columns = BTreeSet::new();
            (self.opaque, self.lost) = (true, true);
        }
    }

    /// This flow and another.
    pub(super) fn with(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    /// The same, of columns that may not be there.
    pub(super) fn unsure(mut self) -> Self {
        let unsure = |mut column: ColumnName| {
            if !column.column.starts_with(['*', '#', '?']) {
                column.column = maybe(&column.column).into();
            }
            column
        };
        self.columns = std::mem::take(&mut self.columns).into_iter().map(unsure).collect();
        self
    }

    /// The values of these sources, computed.
    pub(super) fn derived(mut self) -> Self {
        self.plain = false;
        self
    }

    /// What is computed again and again of itself: of any length.
    pub(super) fn repeated() -> Self {
        Self { varies: true, grown: true, ..Self::default() }
    }

    /// Adds that its length depends on what it is, or may be any.
    pub(super) fn sized(&mut self, varies: bool, grown: bool) {
        self.varies |= varies;
        self.grown |= grown;
    }

    /// Whether its length depends on what it is.
    pub(super) fn varies(&self) -> bool {
        self.varies
    }

    /// Whether it may be of any length.
    pub(super) fn grown(&self) -> bool {
        self.grown
    }

    /// Whether it may be too large or not by what it is.
    pub(super) fn may_overflow(&self) -> bool {
        self.varies && self.grown
    }

    fn output(&self) -> Output {
        if self.opaque {
            return Output::Opaque;
        }
        match self.columns.first() {
            Some(column) if self.plain => Output::Column(column.clone()),
            _ => Output::Columns(self.columns.iter().cloned().collect()),
        }
    }

    fn several(&self) -> Output {
        Output::Several((!self.opaque).then(|| self.columns.iter().cloned().collect()))
    }

    fn of(output: &Output) -> Self {
        match output {
            Output::Column(column) => Self::column(&column.table, &column.column),
            Output::Columns(columns) | Output::Several(Some(columns)) => {
                Self { columns: columns.iter().cloned().collect(), ..Self::default() }
            }
            Output::Row(table) => Self::column(table, "*"),
            Output::Opaque | Output::Several(None) => Self::opaque(),
        }
    }
}

/// A named column of a derived relation; without a name it may have any.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: Option<String>,
    pub(super) flow: Flow,
}

/// What stands at a place of a relation's columns.
#[derive(Clone, Debug)]
enum Slot {
    /// One column.
    Column(Column),
    /// All columns of another relation.
    Source(Rc<Relation>),
    /// Columns that are not known.
    Rest(Flow),
}

/// Rows: a base table's, a query's, a function's.
#[derive(Clone, Debug, Default)]
pub(super) struct Relation {
    base: Option<TableName>,
    /// Names given to the base table's first columns.
    aliases: Vec<String>,
    slots: Vec<Slot>,
    all: Flow,
}

impl Relation {
    /// A base table, of which only the name is known.
    pub(super) fn base(table: TableName) -> Self {
        Self { all: Flow::column(&table, "*"), base: Some(table), ..Self::default() }
    }

    /// Rows of unknown columns, all of which come from `flow`.
    pub(super) fn unknown(flow: Flow) -> Self {
        let mut unknown = Self::default();
        unknown.include_unknown(flow);
        unknown
    }

    /// Adds a column.
    pub(super) fn push(&mut self, name: Option<String>, flow: Flow) {
        self.all.add(flow.clone());
        self.slots.push(Slot::Column(Column { name, flow }));
    }

    /// Adds all columns of another relation, whatever they are.
    pub(super) fn include(&mut self, source: &Rc<Relation>) {
        self.all.add(source.all.clone());
        self.slots.push(Slot::Source(Rc::clone(source)));
    }

    /// Adds columns that are not known, all of which come from `flow`.
    pub(super) fn include_unknown(&mut self, flow: Flow) {
        self.all.add(flow.clone());
        self.slots.push(Slot::Rest(flow.derived()));
    }

    /// Adds `flow` to the column of this name of a base table (it was assigned to).
    pub(super) fn assign(&mut self, name: &str, flow: Flow) {
        let own = self.base.as_ref().map(|table| Flow::column(table, name)).unwrap_or_default();
        self.push(Some(name.to_owned()), own.with(flow));
    }

    /// Where a whole row's values come from.
    pub(super) fn all(&self) -> Flow {
        self.all.clone().derived()
    }

    /// Its columns, where they are exactly the listed ones.
    fn closed(&self) -> Option<Vec<&Column>> {
        let columns = self.slots.iter().map(|slot| match slot {
            Slot::Column(column) => Some(column),
            Slot::Source(_) | Slot::Rest(_) => None,
        });
        columns.collect::<Option<_>>().filter(|_| self.base.is_none())
    }

    /// Its columns' origins, in order.
    pub(super) fn outputs(&self) -> Vec<Output> {
        let (mut outputs, mut left) = (Vec::new(), OUTPUTS_MAX);
        if self.put_outputs(&mut outputs, &mut left).is_none() {
            outputs = vec![self.all.several()];
        }
        outputs
    }

    fn put_outputs(&self, outputs: &mut Vec<Output>, left: &mut usize) -> Option<()> {
        *left = left.checked_sub(1)?;
        if let Some(base) = &self.base {
            let whole = self.slots.is_empty();
            outputs.push(if whole { Output::Row(base.clone()) } else { self.all.several() });
            return Some(());
        }
        for slot in &self.slots {
            match slot {
                Slot::Column(column) => outputs.push(column.flow.output()),
                Slot::Source(source) => source.put_outputs(outputs, left)?,
                Slot::Rest(flow) => outputs.push(flow.several()),
            }
        }
        (outputs.len() <= OUTPUTS_MAX).then_some(())
    }

    /// Where the column at a place, counted from 1, comes from.
    pub(super) fn position(&self, place: usize) -> Flow {
        let outputs = self.outputs();
        let mut before = 0;
        for (at, output) in outputs.iter().enumerate() {
            let place = place.saturating_sub(before);
            let mut flow = match output {
                Output::Column(_) | Output::Columns(_) | Output::Opaque if place > 1 => {
                    before += 1;
                    continue;
                }
                Output::Row(table) => Flow::column(table, &format!("#{place}")),
                output => Flow::of(output),
            };
            let unsure = matches!(output, Output::Row(_)) && place > 1;
            if unsure || matches!(output, Output::Several(_)) {
                // How far it reaches is not known.
                outputs.iter().skip(at + 1).for_each(|later| flow.add(Flow::of(later)));
            }
            return flow;
        }
        Flow::default()
    }

    /// What the column at a place, counted from 1, holds; where they are not known one by one, what any of them does.
    pub(super) fn held_at(&self, place: usize) -> Flow {
        match self.closed() {
            Some(columns) => {
                let column = place.checked_sub(1).and_then(|at| columns.get(at));
                column.map(|column| column.flow.clone()).unwrap_or_default()
            }
            None => self.all(),
        }
    }

    /// Where the columns that were given this name come from.
    pub(super) fn named(&self, name: &str) -> Option<Flow> {
        let columns = self.slots.iter().filter_map(|slot| match slot {
            Slot::Column(column) if column.name.as_deref() == Some(name) => Some(&column.flow),
            _ => None,
        });
        columns.cloned().reduce(Flow::with)
    }

    /// The names of its columns, where all are known.
    pub(super) fn names(&self) -> Option<Vec<&str>> {
        self.closed()?.into_iter().map(|column| column.name.as_deref()).collect()
    }

    /// The same rows with the first columns renamed.
    pub(super) fn renamed(&self, names: &[&str]) -> Self {
        let mut renamed = self.clone();
        if self.closed().is_some() {
            for (slot, name) in renamed.slots.iter_mut().zip(names) {
                if let Slot::Column(column) = slot {
                    column.name = Some((*name).to_owned());
                }
            }
        } else if self.base.is_some() && self.slots.is_empty() {
            if !names.is_empty() {
                renamed.aliases = names.iter().map(|&name| name.to_owned()).collect();
            }
        } else if !names.is_empty() {
            renamed = Self::unknown(self.all());
        }
        renamed
    }

    /// The same columns, each of which may hold what any of them holds.
    pub(super) fn blended(mut self) -> Self {
        if self.closed().is_none() {
            return Self::unknown(self.all());
        }
        let all = self.all();
        for slot in &mut self.slots {
            if let Slot::Column(column) = slot {
                column.flow = all.clone();
            }
        }
        self
    }

    /// The rows of either, under the names of this.
    pub(super) fn union(&self, other: &Self) -> Self {
        if let (Some(left), Some(right)) = (self.closed(), other.closed())
            && left.len() == right.len()
        {
            let mut union = Self::default();
            for (left, right) in left.into_iter().zip(right) {
                let flow = if left.flow == right.flow {
                    left.flow.clone()
                } else {
                    left.flow.clone().with(right.flow.clone())
                };
                union.push(left.name.clone(), flow);
            }
            return union;
        }
        let sides = self.outputs();
        let known = |output: &Output| matches!(output, Output::Column(_) | Output::Row(_));
        if sides.iter().all(known) && sides == other.outputs() {
            return self.clone();
        }
        Self::unknown(self.all().with(other.all()))
    }

    /// Where the column of this name comes from, if there may be one. `steps` bounds the search
    /// through nested `*`; when they run out the answer is lost.
    fn find(&self, name: &str, steps: &mut u32) -> Option<Found> {
        let found = self.find_as(name, name, steps)?;
        if found.places < 2 { Some(found) } else { self.find_as(name, &maybe(name), steps) }
    }

    /// As [`Self::find`]; a base table's column goes by the name `own`.
    fn find_as(&self, name: &str, own: &str, steps: &mut u32) -> Option<Found> {
        let Some(left) = steps.checked_sub(1) else {
            return Some(Found { flow: Flow::lost(), certain: false, places: 1 });
        };
        *steps = left;
        let mut found: Option<Found> = None;
        if let Some(table) = &self.base {
            let place = self.aliases.iter().position(|alias| alias == name);
            let column = place.map_or_else(|| own.to_owned(), |place| format!("#{}", place + 1));
            Found::merge(&mut found, Flow::column(table, &column), place.is_some(), 1);
        }
        for slot in &self.slots {
            match slot {
                Slot::Column(Column { name: given, flow }) => {
                    if given.as_deref().is_none_or(|given| given == name) {
                        Found::merge(&mut found, flow.clone(), given.is_some(), 1);
                    }
                }
                Slot::Source(source) => {
                    if let Some(Found { flow, certain, places }) = source.find_as(name, own, steps)
                    {
                        Found::merge(&mut found, flow, certain, places);
                    }
                }
                Slot::Rest(flow) => Found::merge(&mut found, flow.clone(), false, 1),
            }
        }
        found
    }
}

#[derive(Debug, Default)]
struct Found {
    flow: Flow,
    certain: bool,
    /// How many places it may be in.
    places: usize,
}

impl Found {
    /// Adds a place where a value may come from.
    fn merge(found: &mut Option<Self>, flow: Flow, certain: bool, places: usize) {
        match found {
            Some(found) => {
                found.flow.add(flow);
                found.certain |= certain;
                found.places += places;
            }
            None => *found = Some(Self { flow, certain, places }),
        }
    }
}

/// A column's name where it may as well be another relation's ([`ColumnName::column`]).
fn maybe(name: &str) -> String {
    format!("?{name}")
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
    /// Whether a join merged some of its columns with another's, so that `*` has other ones.
    pub(super) merged: bool,
}

impl Item {
    /// A relation under a name.
    pub(super) fn new(alias: &str, relation: Rc<Relation>) -> Self {
        Self { alias: alias.to_owned(), schema: None, relation, primary: true, merged: false }
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

    /// How many relations the innermost query has.
    pub(super) fn len(&self) -> usize {
        self.levels.last().map_or(0, Vec::len)
    }

    /// Where a relation's column of this name comes from, if it has one.
    pub(super) fn may_have(&mut self, relation: &Relation, name: &str) -> Flow {
        relation.find(name, &mut self.steps).map(|found| found.flow).unwrap_or_default()
    }

    /// The relations that `*` stands for, and whether their columns are merged.
    pub(super) fn star(&self) -> Vec<(Rc<Relation>, bool)> {
        let items = self.levels.last().into_iter().flatten();
        let primary = items.filter(|item| item.primary);
        primary.map(|item| (Rc::clone(&item.relation), item.merged)).collect()
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
        let found = match self.unqualified_as(name, name) {
            Some(Found { places: 2.., .. }) => self.unqualified_as(name, &maybe(name)),
            found => found,
        };
        found.map_or_else(Flow::lost, |found| found.flow)
    }

    fn unqualified_as(&mut self, name: &str, own: &str) -> Option<Found> {
        let mut found: Option<Found> = None;
        for level in self.levels.iter().rev() {
            let mut certain = false;
            for item in level {
                if item.alias == name {
                    let mut row = item.relation.all();
                    row.sized(false, true);
                    Found::merge(&mut found, row, true, 1);
                    certain = true;
                } else if item.primary
                    && let Some(Found { flow, certain: sure, places }) =
                        item.relation.find_as(name, own, &mut self.steps)
                {
                    Found::merge(&mut found, flow, sure, places);
                    certain |= sure;
                }
            }
            if certain {
                break;
            }
        }
        found
    }

    /// Where a relation's column comes from.
    pub(super) fn qualified(&mut self, relation: &Relation, name: &str) -> Flow {
        let flow = relation.find(name, &mut self.steps).map_or_else(Flow::lost, |found| found.flow);
        if super::functions::takes_row(name) { flow.with(relation.all()) } else { flow }
    }
}
