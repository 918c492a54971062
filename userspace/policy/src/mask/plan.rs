//! Decides each column's treatment; the table is in the module's head ([`super`]).

use types::command::{Output, Statement, TableName};
use types::redact::{Column, Format, Treatment, TreatmentKind};

use super::operator::{Shape, shape};
use super::recognizer::Kinds;
use super::redactor::{SessionRedactor, hinted};

impl SessionRedactor {
    /// One of a result's columns; `outputs` are the statement's, where they are as many.
    pub(super) fn column(
        &self,
        statement: &Statement,
        output: Option<&Output>,
        column: &Column,
    ) -> Treatment {
        let name = String::from_utf8_lossy(&column.name);
        let by_text = output.and_then(|output| self.by_output(output));
        let by_origin = match self.catalog.relation(column.table_oid) {
            Some(relation) => {
                let columns = relation.columns.iter();
                let meant = columns.filter(|c| column.attnum == 0 || c.attnum == column.attnum);
                self.masks.strictest(meant.flat_map(|c| &c.classes))
            }
            None if column.table_oid != 0 && column.attnum != 0 => {
                self.by_pattern(statement, &name)
            }
            None => self.of_unknown_origin(statement, output).or_else(|| {
                let lost = !self.catalog.is_known();
                lost.then(|| self.by_pattern(statement, &name)).flatten()
            }),
        };
        let mask = self.masks.stricter([by_text, by_origin].into_iter().flatten());
        let hint = match output {
            Some(Output::Columns(from)) => from
                .iter()
                .fold(Kinds::default(), |hint, c| hint.or(Kinds::hinted_by(c.column.as_bytes()))),
            _ => Kinds::default(),
        };
        let hint = hint.or(Kinds::hinted_by(&column.name));
        self.treat(mask, hint, column.type_oid, column.format)
    }

    /// One of the columns of a COPY TO STDOUT.
    pub(super) fn copy_column(
        &self,
        statement: &Statement,
        at: usize,
        count: usize,
        format: Format,
    ) -> Treatment {
        let widest = || self.treat(self.masks.strictest_of_all(), Kinds::default(), 0, format);
        let Some(copy) = &statement.copy else { return widest() };
        let Some(table) = &copy.table else {
            let output = output(statement, at, count);
            let name = match output {
                Some(Output::Columns(from)) => from.first().map_or("", |c| &*c.column),
                _ => "",
            };
            let column = Column {
                name: name.as_bytes().to_vec(),
                table_oid: 0,
                attnum: 0,
                type_oid: 0,
                format,
            };
            return self.column(statement, output, &column);
        };
        let mut relations = self.catalog.named(table);
        let (relation, several) = (relations.next(), relations.next().is_some());
        let named = match (&copy.columns, relation) {
            _ if several => None,
            (Some(list), relation) if list.len() == count => list.get(at).map(|name| {
                let column = relation.and_then(|r| r.columns.iter().find(|c| c.name == **name));
                (&**name, column.map_or(0, |c| c.type_oid))
            }),
            (None, Some(relation)) if relation.columns.len() == count => {
                relation.columns.get(at).map(|c| (&*c.name, c.type_oid))
            }
            // Not listed by a probe that lists all that holds a classified column.
            (None, None) if self.catalog.is_known() && self.by_name(table, "*").is_none() => {
                return self.treat(None, Kinds::default(), 0, format);
            }
            _ => None,
        };
        let Some((name, type_oid)) = named else { return widest() };
        let hint = Kinds::hinted_by(name.as_bytes());
        self.treat(self.by_name(table, name), hint, type_oid, format)
    }

    fn treat(&self, mask: Option<u16>, hint: Kinds, type_oid: u32, format: Format) -> Treatment {
        let hint = hint.and(self.masks.kinds);
        let kind = match (mask, shape(type_oid, format)) {
            (Some(rule), _) => TreatmentKind::Mask(rule),
            (None, _) if self.masks.kinds.is_empty() => TreatmentKind::Pass,
            (None, Shape::Plain | Shape::Uuid) => TreatmentKind::Pass,
            (None, Shape::Integer) if hint.is_empty() => TreatmentKind::Pass,
            (None, _) if hint.is_empty() => TreatmentKind::Inspect,
            (None, _) => hinted(hint),
        };
        Treatment { kind, type_oid, format }
    }

    /// The rule for the columns an output is known to come from.
    fn by_output(&self, output: &Output) -> Option<u16> {
        let Output::Columns(columns) = output else { return None };
        self.masks.stricter(columns.iter().filter_map(|c| self.by_name(&c.table, &c.column)))
    }

    /// By the analysis of the text; what it does not know has the classes of all the statement reads.
    fn of_unknown_origin(&self, statement: &Statement, output: Option<&Output>) -> Option<u16> {
        if let Some(output @ Output::Columns(_)) = output {
            return self.by_output(output);
        }
        let mut tables = statement.accesses.iter().filter_map(|a| a.table.as_ref()).peekable();
        if !self.catalog.is_known() {
            return self
                .masks
                .strictest_of_all()
                .filter(|_| tables.peek().is_some() || !statement.functions.is_empty());
        }
        self.masks.stricter(tables.filter_map(|table| self.by_name(table, "*")))
    }

    /// The rule for a column by name: from the catalog, or from the patterns themselves.
    fn by_name(&self, table: &TableName, column: &str) -> Option<u16> {
        let classes = self.catalog.classes_named(&self.masks.classification, table, column);
        self.masks.strictest(classes)
    }

    /// The rule a column's own name suggests on any of the tables read.
    fn by_pattern(&self, statement: &Statement, column: &str) -> Option<u16> {
        let tables = statement.accesses.iter().filter_map(|a| a.table.as_ref());
        self.masks.stricter(tables.filter_map(|table| {
            let classes = self.masks.classification.classes_of(table, column);
            self.masks.strictest(classes.map(|c| &c.name))
        }))
    }
}

/// The statement's output at a place, where it has as many as the result has columns.
pub(super) fn output(statement: &Statement, at: usize, count: usize) -> Option<&Output> {
    statement.outputs.as_ref().filter(|outputs| outputs.len() == count)?.get(at)
}
