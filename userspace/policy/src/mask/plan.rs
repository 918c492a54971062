//! Decides each column's treatment; the table is in the module's head ([`super`]).

use types::command::{Output, Statement, TableName};
use types::redact::{Column, DataClass, Format, Treatment, TreatmentKind};

use super::operator::{Shape, shape};
use super::redactor::SessionRedactor;

impl SessionRedactor {
    pub(super) fn column(&self, statement: &Statement, at: usize, column: &Column) -> Treatment {
        let name = String::from_utf8_lossy(&column.name);
        let output = statement.outputs.as_ref().and_then(|outputs| outputs.get(at));
        let by_origin = match self.catalog.relation(column.table_oid) {
            Some(relation) => {
                let columns = relation.columns.iter();
                let meant = columns.filter(|c| column.attnum == 0 || c.attnum == column.attnum);
                self.masks.strictest(meant.flat_map(|c| &c.classes))
            }
            None if column.table_oid != 0 && column.attnum != 0 => self
                .by_pattern(statement, &name)
                .or_else(|| output.and_then(|output| self.by_lineage(statement, Some(output)))),
            None => self.by_lineage(statement, output).or_else(|| {
                let lost = !self.catalog.is_known();
                lost.then(|| self.by_pattern(statement, &name)).flatten()
            }),
        };
        self.treat(by_origin, column.type_oid, column.format)
    }

    pub(super) fn copy_column(
        &self,
        statement: &Statement,
        at: usize,
        count: usize,
        format: Format,
    ) -> Treatment {
        let copied =
            statement.copy.as_ref().and_then(|c| c.table.as_ref().map(|t| (t, c.columns.as_ref())));
        let Some((table, list)) = copied else {
            let output =
                statement.outputs.as_ref().filter(|o| o.len() == count).and_then(|o| o.get(at));
            return self.treat(self.by_lineage(statement, output), 0, format);
        };
        let mut relations = self.catalog.named(table);
        let (relation, several) = (relations.next(), relations.next().is_some());
        if several {
            return self.treat(self.by_table(table).or(self.masks.strictest_of_all()), 0, format);
        }
        if let Some(list) = list {
            let name = list.get(at).map_or("*", |name| &**name);
            let type_oid = relation
                .and_then(|r| r.columns.iter().find(|c| c.name == name))
                .map_or(0, |c| c.type_oid);
            return self.treat(self.by_name(table, name), type_oid, format);
        }
        let Some(relation) = relation.filter(|r| r.columns.len() == count) else {
            return self.treat(self.masks.strictest_of_all(), 0, format);
        };
        let mut columns: Vec<_> = relation.columns.iter().collect();
        columns.sort_unstable_by_key(|c| c.attnum);
        let Some(column) = columns.get(at) else {
            return self.treat(self.masks.strictest_of_all(), 0, format);
        };
        self.treat(self.masks.strictest(column.classes.iter()), column.type_oid, format)
    }

    fn treat(&self, mask: Option<u16>, type_oid: u32, format: Format) -> Treatment {
        let kind = match mask {
            Some(rule) => TreatmentKind::Mask(rule),
            None if self.masks.kinds.is_empty() => TreatmentKind::Pass,
            None => match shape(type_oid, format) {
                Shape::Plain | Shape::Uuid => TreatmentKind::Pass,
                _ => TreatmentKind::Inspect,
            },
        };
        Treatment { kind, type_oid, format }
    }

    /// By the analysis of the text; what it does not know has the classes of all the statement reads.
    fn by_lineage(&self, statement: &Statement, output: Option<&Output>) -> Option<u16> {
        if let Some(Output::Columns(columns)) = output {
            let rules: Vec<u16> =
                columns.iter().filter_map(|c| self.by_name(&c.table, &c.column)).collect();
            return self.strictest_rule(&rules);
        }
        let mut tables = statement.accesses.iter().filter_map(|a| a.table.as_ref()).peekable();
        if !self.catalog.is_known() {
            return self
                .masks
                .strictest_of_all()
                .filter(|_| tables.peek().is_some() || !statement.functions.is_empty());
        }
        let rules: Vec<u16> = tables.filter_map(|table| self.by_table(table)).collect();
        self.strictest_rule(&rules)
    }

    fn by_table(&self, table: &TableName) -> Option<u16> {
        self.by_name(table, "*")
    }

    /// The rule for a column by name: from the catalog, and from the patterns themselves.
    fn by_name(&self, table: &TableName, column: &str) -> Option<u16> {
        let mut known = self.catalog.named(table).peekable();
        if known.peek().is_none() {
            let classes = self.masks.classification.classes_of(table, column);
            return self.masks.strictest(classes.map(|c| &c.name));
        }
        let columns = known.flat_map(|r| &r.columns).filter(|c| column == "*" || c.name == column);
        self.masks.strictest(columns.flat_map(|c| &c.classes))
    }

    /// The rule a column's own name suggests on any of the tables read.
    fn by_pattern(&self, statement: &Statement, column: &str) -> Option<u16> {
        let tables = statement.accesses.iter().filter_map(|a| a.table.as_ref());
        let rules: Vec<u16> = tables
            .filter_map(|table| {
                let classes = self.masks.classification.classes_of(table, column);
                self.masks.strictest(classes.map(|c| &c.name))
            })
            .collect();
        self.strictest_rule(&rules)
    }

    fn strictest_rule(&self, rules: &[u16]) -> Option<u16> {
        let classes: Vec<&DataClass> = rules
            .iter()
            .filter_map(|at| self.masks.rules.get(usize::from(*at)))
            .map(|r| &r.class)
            .collect();
        self.masks.strictest(classes.into_iter())
    }
}
