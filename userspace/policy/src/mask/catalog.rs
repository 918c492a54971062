//! Which columns of one database hold which class, from one read-only query's rows.

use std::collections::HashMap;

use types::command::TableName;
use types::redact::DataClass;

use crate::classification::Classification;

/// Returns the probe's SQL. Every name and operator is qualified, so no `search_path` can shadow it.
/// It asks for all user relations; the patterns are applied by [`Catalog::from_rows`].
pub fn catalog_query(_classification: &Classification) -> String {
    QUERY.to_owned()
}

/// The columns of one database, and their classes.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    known: bool,
    relations: HashMap<u32, Relation>,
    by_name: HashMap<String, Vec<u32>>,
}

/// A table, view or the like.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub(super) table: TableName,
    pub(super) columns: Vec<CatalogColumn>,
}

/// A column of a relation.
#[derive(Clone, Debug)]
pub(super) struct CatalogColumn {
    pub(super) attnum: i16,
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) classes: Vec<DataClass>,
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

    /// Reads the rows of [`catalog_query`].
    ///
    /// # Errors
    ///
    /// A row that is not as asked for.
    pub fn from_rows(
        classification: &Classification,
        rows: &[Vec<Option<String>>],
    ) -> Result<Self, CatalogError> {
        let mut catalog = Self { known: true, ..Self::default() };
        let mut edges = Vec::new();
        for (row, cells) in rows.iter().enumerate() {
            catalog.add(classification, cells, &mut edges).ok_or(CatalogError::Row { row })?;
        }
        catalog.derive(&edges);
        Ok(catalog)
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
        oids.iter()
            .filter_map(|oid| self.relations.get(oid))
            .filter(|r| table.schema.is_none() || r.table.schema == table.schema)
    }

    fn add(
        &mut self,
        classification: &Classification,
        cells: &[Option<String>],
        edges: &mut Vec<Edge>,
    ) -> Option<()> {
        let [kind, oid, schema, name, attnum, column, other, _] = cells else { return None };
        let oid: u32 = oid.as_deref()?.parse().ok()?;
        let attnum: i16 = attnum.as_deref()?.parse().ok()?;
        let other: u32 = other.as_deref()?.parse().ok()?;
        if kind.as_deref() != Some("c") {
            let view = kind.as_deref()? == "d";
            edges.push(Edge { oid, base: other, attnum, view });
            return Some(());
        }
        let relation = self.relations.entry(oid).or_insert_with(|| {
            let name = name.as_deref().unwrap_or_default();
            self.by_name.entry(name.to_owned()).or_default().push(oid);
            let table = TableName { schema: schema.as_deref().map(Into::into), name: name.into() };
            Relation { table, columns: Vec::new() }
        });
        let name = column.clone()?;
        let classes = classification.classes_of(&relation.table, &name);
        let classes = classes.map(|c| c.name.clone()).collect();
        relation.columns.push(CatalogColumn { attnum, name, type_oid: other, classes });
        Some(())
    }

    /// Carries classes from base columns to views and children, until nothing changes. Classes are
    /// only added, so it ends; 64 levels of views are more than the server's own stack likes.
    fn derive(&mut self, edges: &[Edge]) {
        let mut by_target: HashMap<u32, Vec<&Edge>> = HashMap::new();
        for edge in edges {
            by_target.entry(edge.oid).or_default().push(edge);
        }
        for _ in 0..64 {
            let mut changed = false;
            for (oid, edges) in &by_target {
                changed |= self.derive_one(*oid, edges);
            }
            if !changed {
                return;
            }
        }
    }

    fn derive_one(&mut self, oid: u32, edges: &[&Edge]) -> bool {
        let mut named: HashMap<String, Vec<DataClass>> = HashMap::new();
        let mut all: Vec<DataClass> = Vec::new();
        for edge in edges {
            let Some(base) = self.relations.get(&edge.base) else { continue };
            for column in &base.columns {
                if edge.attnum == 0 || edge.attnum == column.attnum {
                    named
                        .entry(column.name.clone())
                        .or_default()
                        .extend(column.classes.iter().cloned());
                    if edge.view {
                        all.extend(column.classes.iter().cloned());
                    }
                }
            }
        }
        let mut changed = false;
        let Some(relation) = self.relations.get_mut(&oid) else { return false };
        for column in &mut relation.columns {
            for class in named.get(&column.name).unwrap_or(&all) {
                if !column.classes.contains(class) {
                    column.classes.push(class.clone());
                    changed = true;
                }
            }
        }
        changed
    }
}

/// `oid` takes from column `attnum` of `base` (0: from all).
struct Edge {
    oid: u32,
    base: u32,
    attnum: i16,
    view: bool,
}

const QUERY: &str = "\
SELECT 'c'::pg_catalog.text, c.oid::pg_catalog.text, n.nspname::pg_catalog.text, \
c.relname::pg_catalog.text, a.attnum::pg_catalog.text, a.attname::pg_catalog.text, \
a.atttypid::pg_catalog.text, c.relkind::pg_catalog.text \
FROM pg_catalog.pg_class c \
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid \
WHERE a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped \
AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','v','m','p','f']::pg_catalog.\"char\"[]) \
AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog','information_schema']::pg_catalog.name[]) \
UNION ALL \
SELECT DISTINCT 'd', r.ev_class::pg_catalog.text, NULL, NULL, d.refobjsubid::pg_catalog.text, NULL, \
d.refobjid::pg_catalog.text, NULL \
FROM pg_catalog.pg_rewrite r \
JOIN pg_catalog.pg_depend d ON d.objid OPERATOR(pg_catalog.=) r.oid \
WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid \
AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
AND d.refobjid OPERATOR(pg_catalog.<>) r.ev_class \
AND d.refobjid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
UNION ALL \
SELECT 'i', i.inhrelid::pg_catalog.text, NULL, NULL, '0', NULL, i.inhparent::pg_catalog.text, NULL \
FROM pg_catalog.pg_inherits i";
