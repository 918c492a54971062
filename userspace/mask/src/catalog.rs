//! Which columns of one database hold which class, from one read-only query's rows.
//!
//! A view's definition is not read here: [`Catalog::resolve_views`] takes what an analysis of it
//! found. Until then, and where the analysis does not know, every column of a view that reads
//! classified columns has all their classes. A function a view calls is not looked into: what comes of one of
//! the database's own has every class.
//!
//! What is not listed was made since, or could not be read: it may hold anything. A column keeps the
//! classes that it had when it was read before, however it is called now: a new name is no new value.

mod listing;
mod query;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use types::command::{ColumnName, Output, TableName};
use types::redact::DataClass;

use crate::classification::Classification;

use listing::{Listing, is_schema};

pub use query::{catalog_query, is_catalog_query};

/// The columns of one database, and their classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    known: bool,
    listing: Listing,
    relations: BTreeMap<u32, Relation>,
    by_name: HashMap<String, Vec<u32>>,
    /// Names of relations where a rule or a trigger acts instead of a statement that writes.
    ruled: HashSet<String>,
    /// Names of the database's own functions, in lower case.
    functions: HashSet<String>,
    /// Functions that `relation.name` may call, by the relation's name and their own; of no relation's
    /// name: of any.
    row_functions: HashSet<(String, String)>,
}

/// A table, view or the like.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Relation {
    pub(super) table: Option<TableName>,
    /// In the order of their attribute numbers.
    pub(super) columns: Vec<CatalogColumn>,
    /// What it inherits from or to.
    kin: Vec<u32>,
    /// What it reads, if it is a view.
    bases: Vec<u32>,
    is_view: bool,
    /// Whether it is a view that calls code of the database's own.
    calls: bool,
    definition: Option<String>,
    outputs: Option<Vec<Output>>,
    /// Generated columns and what they are generated from, by attribute numbers.
    generated: Vec<(i16, i16)>,
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CatalogColumn {
    pub(super) attnum: i16,
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) modifier: i32,
    pub(super) classes: Vec<DataClass>,
    /// Those that it had when the catalog was read before.
    kept: Vec<DataClass>,
    /// Whether its values are those of a base column, as they are.
    pub(super) plain: bool,
}

impl Relation {
    /// Whether its rows are made from others'.
    fn is_derived(&self) -> bool {
        self.is_view || !self.bases.is_empty()
    }

    /// The columns that a COPY without a list has: all but generated ones.
    pub(super) fn stored(&self) -> impl Iterator<Item = &CatalogColumn> {
        self.columns.iter().filter(|c| self.generated.iter().all(|(to, _)| *to != c.attnum))
    }

    /// The columns that may be meant by a name: `*` means all, `#N` the N-th, `?NAME` that one or
    /// none; one that is not listed may be any.
    fn meant(&self, column: &str) -> Vec<&CatalogColumn> {
        let place = column.strip_prefix('#').and_then(|place| place.parse::<usize>().ok());
        let at = place.and_then(|place| place.checked_sub(1)).and_then(|at| self.columns.get(at));
        if let Some(column) = at {
            return vec![column];
        }
        let unsure = column.strip_prefix('?');
        let name = unsure.unwrap_or(column);
        let named: Vec<&CatalogColumn> = self.columns.iter().filter(|c| c.name == name).collect();
        if named.is_empty() && unsure.is_none() { self.columns.iter().collect() } else { named }
    }

    /// Gives generated columns the classes of what they are generated from (never from each other:
    /// PostgreSQL documentation §5.4).
    fn generate(&mut self) {
        for (to, from) in &self.generated {
            let source = self.columns.iter().find(|c| c.attnum == *from);
            let classes = source.map(|c| c.classes.clone()).unwrap_or_default();
            let Some(target) = self.columns.iter_mut().find(|c| c.attnum == *to) else { continue };
            target.classes.extend(classes);
            target.classes.dedup();
        }
    }
}

/// Why probe rows are refused.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A row is not as [`catalog_query`] asks for it.
    #[error("catalog row {row} is malformed")]
    Row {
        /// Its number, from 0.
        row: usize,
    },
}

impl Catalog {
    /// What holds where the probe failed: nothing is known, so nothing of unknown origin is clean.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Reads the rows of [`catalog_query`]; call [`Catalog::resolve_views`] next. Columns keep the
    /// classes that they had in `previous`.
    ///
    /// # Errors
    ///
    /// A row that is not as asked for.
    pub fn from_rows(
        classification: &Classification,
        rows: &[Vec<Option<String>>],
        previous: &Self,
    ) -> Result<Self, CatalogError> {
        let mut catalog = Self { known: true, ..Self::default() };
        for (row, cells) in rows.iter().enumerate() {
            catalog.add(cells).ok_or(CatalogError::Row { row })?;
        }
        // Edges to relations that are not listed lead to nothing classified.
        catalog.relations.retain(|_, relation| relation.table.is_some());
        for (oid, relation) in &mut catalog.relations {
            relation.columns.sort_unstable_by_key(|c| c.attnum);
            let name = relation.table.as_ref().map_or("", |t| &*t.name);
            catalog.by_name.entry(name.to_owned()).or_default().push(*oid);
        }
        catalog.derive(classification);
        if catalog.keep(classification, previous) {
            catalog.derive(classification);
        }
        Ok(catalog)
    }

    /// Gives each view's columns the classes of what flows into them: `outputs_of` is handed a
    /// view's definition, as `pg_get_viewdef` prints it in the probing session, and returns its
    /// output columns (`None`: not known, so all of the view's columns keep all classes it reads).
    pub fn resolve_views(
        &mut self,
        classification: &Classification,
        mut outputs_of: impl FnMut(&str) -> Option<Vec<Output>>,
    ) {
        for relation in self.relations.values_mut() {
            if let Some(definition) = relation.definition.take() {
                let outputs = outputs_of(&definition);
                relation.outputs = outputs.filter(|o| o.len() == relation.columns.len());
            }
        }
        self.derive(classification);
    }

    /// The relations with columns that are classified by themselves, by OID: [`catalog_query`] asks for
    /// them again, whatever they are called by then.
    pub fn classified(&self) -> Vec<u32> {
        let has_own =
            |r: &Relation| !r.is_derived() && r.columns.iter().any(|c| !c.classes.is_empty());
        self.relations.iter().filter(|(_, r)| has_own(r)).map(|(oid, _)| *oid).collect()
    }

    /// Columns that are classified by what they were called before, as `schema.table.column`; their new
    /// names should be in the classification.
    pub fn renamed(&self) -> Vec<String> {
        let mut renamed = Vec::new();
        for relation in self.relations.values() {
            let Some(table) = &relation.table else { continue };
            let kept = relation.columns.iter().filter(|column| !column.kept.is_empty());
            renamed.extend(kept.map(|column| format!("{table}.{}", column.name)));
        }
        renamed
    }

    /// Whether a relation had this attribute when the catalog was read.
    pub(super) fn lists(&self, oid: u32, attnum: i16) -> bool {
        self.listing.has(oid, attnum)
    }

    /// Whether a relation of this name was there when the catalog was read.
    pub(super) fn lists_name(&self, table: &TableName) -> bool {
        self.listing.has_name(table)
    }

    /// Whether something else may be done instead of a statement that writes to this relation.
    pub(super) fn has_rule(&self, table: &TableName) -> bool {
        self.ruled.contains(&*table.name)
    }

    /// Whether the database has a function of its own of this name, in lower case.
    pub(super) fn has_function(&self, name: &str) -> bool {
        self.functions.contains(name)
    }

    /// Whether the probe succeeded.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    pub(super) fn relation(&self, oid: u32) -> Option<&Relation> {
        self.relations.get(&oid)
    }

    /// The relations a name may mean; a schema that is not given counts as any.
    pub(super) fn named<'a>(&'a self, table: &'a TableName) -> impl Iterator<Item = &'a Relation> {
        let oids = self.by_name.get(&*table.name).map_or(&[][..], Vec::as_slice);
        let relations = oids.iter().filter_map(|oid| self.relations.get(oid));
        relations.filter(|r| {
            let own = r.table.as_ref().and_then(|t| t.schema.as_deref());
            let said = table.schema.as_deref();
            said.is_none_or(|said| own.is_some_and(|own| is_schema(said, own)))
        })
    }

    /// The classes of `column` (`*`: of all) in the relations `table` may mean. A column that is
    /// not listed has all of its relation's. A relation that held nothing classified when the probe ran
    /// is clean as a whole row; a column of it has those of the patterns. One that was not there has all
    /// there are.
    pub(super) fn classes_named<'a>(
        &'a self,
        classification: &'a Classification,
        table: &'a TableName,
        column: &'a str,
    ) -> Vec<&'a DataClass> {
        if self.is_row_function(table, column) {
            return classification.classes.iter().map(|c| &c.name).collect();
        }
        let mut known = self.named(table).peekable();
        if known.peek().is_none() && !self.lists_name(table) {
            return classification.classes.iter().map(|c| &c.name).collect();
        }
        if known.peek().is_none() {
            let column = if column.starts_with('#') { "*" } else { column };
            let column = column.strip_prefix('?').unwrap_or(column);
            if self.known && column == "*" {
                return Vec::new();
            }
            return classification.classes_of(table, column).map(|c| &c.name).collect();
        }
        let mut classes = Vec::new();
        for relation in known {
            let meant = relation.meant(column);
            if meant.is_empty() {
                // Not its, or added since: its name says what it would be.
                let name = column.strip_prefix('?').unwrap_or(column);
                classes.extend(classification.classes_of(table, name).map(|c| &c.name));
            }
            classes.extend(meant.into_iter().flat_map(|c| &c.classes));
        }
        classes
    }

    /// Whether `table.column` may call a function of the database's own that is given the row.
    fn is_row_function(&self, table: &TableName, column: &str) -> bool {
        let name = column.strip_prefix('?').unwrap_or(column);
        let of = |relation: &str| {
            let key = (relation.to_owned(), name.to_owned());
            self.row_functions.contains(&key)
        };
        !self.row_functions.is_empty()
            && (of(&table.name) || of(""))
            && !self.named(table).any(|r| r.columns.iter().any(|c| c.name == name))
    }

    /// The type of a column and its modifier, where one relation alone is meant.
    pub(super) fn type_of(&self, column: &ColumnName) -> Option<(u32, i32)> {
        let mut known = self.named(&column.table);
        let meant = known.next()?.meant(&column.column);
        let ([meant], None) = (meant.as_slice(), known.next()) else { return None };
        Some((meant.type_oid, meant.modifier))
    }

    /// Whether a column's values are a base column's own, in every relation that may be meant.
    pub(super) fn is_plain(&self, column: &ColumnName) -> bool {
        let mut known = self.named(&column.table).peekable();
        let listed = known.peek().is_some();
        let plain = known.all(|relation| {
            let mut meant = relation.meant(&column.column).into_iter();
            meant.next().is_some_and(|c| c.plain) && meant.next().is_none()
        });
        listed && plain
    }

    /// The number of columns of the one relation that is meant, if it is listed.
    pub(super) fn width(&self, table: &TableName) -> Option<usize> {
        let mut known = self.named(table);
        let width = known.next()?.columns.len();
        known.next().is_none().then_some(width)
    }

    fn add(&mut self, cells: &[Option<String>]) -> Option<()> {
        let [kind, oid, schema, name, attnum, column, other, definition] = cells else {
            return None;
        };
        let number = |cell: &Option<String>| cell.as_deref()?.parse::<u32>().ok();
        if kind.as_deref()? == "r" {
            let of = (name.clone().unwrap_or_default(), column.clone()?);
            self.row_functions.insert(of);
            return Some(());
        }
        if kind.as_deref()? == "n" {
            self.functions.insert(column.as_deref()?.to_lowercase());
            return Some(());
        }
        if kind.as_deref()? == "w" {
            self.ruled.insert(name.clone()?);
            return Some(());
        }
        if kind.as_deref()? == "l" {
            let last = attnum.as_deref()?.parse().ok()?;
            self.listing.add(number(oid)?, schema.as_deref()?, name.as_deref()?, last);
            return Some(());
        }
        let relation = self.relations.entry(number(oid)?).or_default();
        match kind.as_deref()? {
            "c" => {
                let table = TableName {
                    schema: Some(schema.as_deref()?.into()),
                    name: name.as_deref()?.into(),
                };
                relation.table.get_or_insert(table);
                let attnum = attnum.as_deref()?.parse().ok()?;
                self.listing.add(number(oid)?, schema.as_deref()?, name.as_deref()?, attnum);
                relation.columns.push(CatalogColumn {
                    attnum,
                    name: column.clone()?,
                    type_oid: number(other)?,
                    modifier: definition.as_deref().map_or(Some(-1), |n| n.parse().ok())?,
                    classes: Vec::new(),
                    kept: Vec::new(),
                    plain: false,
                });
            }
            "d" => relation.bases.push(number(other)?),
            "f" => relation.calls = true,
            "i" => relation.kin.push(number(other)?),
            "v" => {
                relation.is_view = true;
                relation.definition.clone_from(definition);
            }
            "g" => {
                let from = other.as_deref()?.parse().ok()?;
                relation.generated.push((attnum.as_deref()?.parse().ok()?, from));
            }
            _ => return None,
        }
        Some(())
    }

    /// Has columns keep what they held by `previous` and would hold no more: all classes of a table's, so
    /// that what left its kin or has another name holds what it held; of a view's those by its name,
    /// since its values may be others now. Answers whether any does.
    fn keep(&mut self, classification: &Classification, previous: &Self) -> bool {
        let mut keeps = false;
        for (oid, relation) in &mut self.relations {
            let Some(before) = previous.relations.get(oid) else { continue };
            let Some(table) = before.table.as_ref() else { continue };
            for column in &mut relation.columns {
                let Some(was) = before.columns.iter().find(|c| c.attnum == column.attnum) else {
                    continue;
                };
                let mut kept: Vec<DataClass> = if before.is_derived() {
                    let named = classification.classes_of(table, &was.name).map(|c| c.name.clone());
                    was.kept.iter().cloned().chain(named).collect()
                } else {
                    was.classes.clone()
                };
                kept.retain(|class| !column.classes.contains(class));
                keeps |= !kept.is_empty();
                column.kept = kept;
            }
        }
        keeps
    }

    /// Gives every column the classes its name has by the patterns, and carries them to views and
    /// kin until nothing changes. Classes are only added, so it ends; a view is made after what it
    /// reads and mostly has the higher OID, so one or two rounds do. Where [`ROUNDS_MAX`] do not,
    /// whatever takes from another relation has all classes.
    fn derive(&mut self, classification: &Classification) {
        for relation in self.relations.values_mut() {
            let Some(table) = &relation.table else { continue };
            let is_base = !relation.is_derived();
            for column in &mut relation.columns {
                let classes = classification.classes_of(table, &column.name).map(|c| &c.name);
                column.classes = classes.chain(&column.kept).cloned().collect();
                column.classes.sort_unstable();
                column.classes.dedup();
                let is_generated = relation.generated.iter().any(|(to, _)| *to == column.attnum);
                column.plain = is_base && !is_generated;
            }
            relation.generate();
        }
        let derived: Vec<u32> = self
            .relations
            .iter()
            .filter(|(_, r)| !r.bases.is_empty() || !r.kin.is_empty() || r.calls)
            .map(|(oid, _)| *oid)
            .collect();
        for _ in 0..ROUNDS_MAX {
            let mut changed = false;
            for oid in &derived {
                let gained = self.gained(classification, *oid);
                changed |= self.give(*oid, gained);
            }
            if !changed {
                return self.derive_plain(&derived);
            }
        }
        let all: Vec<DataClass> = classification.classes.iter().map(|c| c.name.clone()).collect();
        for oid in derived {
            let columns = self.relations.get(&oid).map_or(0, |r| r.columns.len());
            self.give(oid, vec![all.clone(); columns]);
        }
    }

    /// Finds the columns of views that are base columns as they are.
    fn derive_plain(&mut self, derived: &[u32]) {
        for _ in 0..ROUNDS_MAX {
            let mut changed = false;
            for oid in derived {
                let Some(relation) = self.relations.get(oid) else { continue };
                let plain: Vec<bool> = relation
                    .columns
                    .iter()
                    .enumerate()
                    .map(|(at, column)| match relation.outputs.as_ref().and_then(|o| o.get(at)) {
                        Some(Output::Column(from)) => self.is_plain(from),
                        Some(_) => false,
                        None => column.plain,
                    })
                    .collect();
                let Some(relation) = self.relations.get_mut(oid) else { continue };
                for (column, plain) in relation.columns.iter_mut().zip(plain) {
                    changed |= std::mem::replace(&mut column.plain, plain) != plain;
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// What each column of a relation takes from others.
    fn gained(&self, classification: &Classification, oid: u32) -> Vec<Vec<DataClass>> {
        let Some(relation) = self.relations.get(&oid) else { return Vec::new() };
        let bases = relation.bases.iter().filter_map(|base| self.relations.get(base));
        let all: BTreeSet<&DataClass> =
            bases.flat_map(|b| &b.columns).flat_map(|c| &c.classes).collect();
        let kin: Vec<&Relation> =
            relation.kin.iter().filter_map(|kin| self.relations.get(kin)).collect();
        let columns = relation.columns.iter().enumerate().map(|(at, column)| {
            let mut classes = match relation.outputs.as_ref().and_then(|o| o.get(at)) {
                Some(Output::Column(c)) => self.classes_named(classification, &c.table, &c.column),
                Some(Output::Columns(from)) => from
                    .iter()
                    .flat_map(|c| self.classes_named(classification, &c.table, &c.column))
                    .collect(),
                // What code reads is not known.
                _ if relation.calls => classification.classes.iter().map(|c| &c.name).collect(),
                _ => all.iter().copied().collect::<Vec<_>>(),
            };
            let alike = kin.iter().flat_map(|r| &r.columns).filter(|c| c.name == column.name);
            classes.extend(alike.flat_map(|c| &c.classes));
            classes.sort_unstable();
            classes.dedup();
            classes.into_iter().cloned().collect()
        });
        columns.collect()
    }

    fn give(&mut self, oid: u32, gained: Vec<Vec<DataClass>>) -> bool {
        let Some(relation) = self.relations.get_mut(&oid) else { return false };
        let mut changed = false;
        for (column, classes) in relation.columns.iter_mut().zip(gained) {
            for class in classes {
                if !column.classes.contains(&class) {
                    column.classes.push(class);
                    changed = true;
                }
            }
        }
        changed
    }
}

/// Rounds of carrying classes on: chains of views in the wrong order of OIDs take one each.
const ROUNDS_MAX: usize = 64;
