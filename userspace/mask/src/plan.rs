//! Decides each column's treatment; the table is in the module's head ([`super`]).

use types::command::{Access, Analysis, Class, ColumnName, Output, Risk, TableName};
use types::redact::{Column, DataClass, Format, Quotes, Treatment, TreatmentKind};

use super::catalog::Catalog;
use super::masks::Masks;
use super::operator::{Shape, shape};
use super::recognizer::Kinds;
use super::redactor::{SessionRedactor, derived, hinted};

/// What the text says of one of a result's columns.
#[derive(Clone, Copy, Debug)]
enum Place<'s> {
    /// This.
    Output(&'s Output),
    /// The column at a place, from 0, of a relation.
    Row(&'s TableName, usize),
    /// One of these.
    Among(&'s [Output]),
    /// Nothing.
    Unknown,
}

/// The type of a column of which none is known.
const UNTYPED: (u32, i32) = (0, -1);

/// A column's rule, and whether its values are the classified column's own.
#[derive(Clone, Copy, Debug)]
struct Found {
    rule: u16,
    plain: bool,
}

impl SessionRedactor {
    /// The treatment of each of a result's columns.
    pub(super) fn columns(&self, statement: &Analysis, columns: &[Column]) -> Vec<Treatment> {
        let places = places(statement, columns.len(), &self.catalog);
        places.into_iter().zip(columns).map(|(place, c)| self.column(statement, place, c)).collect()
    }

    /// One of a result's columns.
    fn column(&self, statement: &Analysis, place: Place<'_>, column: &Column) -> Treatment {
        let name = String::from_utf8_lossy(&column.name);
        let by_text = match place {
            Place::Output(output) => self.by_output(output),
            Place::Row(..) | Place::Among(_) | Place::Unknown => None,
        };
        let by_origin = match self.catalog.relation(column.table_oid) {
            _ if self.returns_by_rule(statement) => self.any_rule(),
            // Made since the catalog was read, which may be never: it may show anything.
            _ if column.table_oid != 0 && !self.catalog.lists(column.table_oid, column.attnum) => {
                self.any_rule()
            }
            Some(relation) => {
                let columns = relation.columns.iter();
                let meant = columns.filter(|c| column.attnum == 0 || c.attnum == column.attnum);
                let plain = column.attnum != 0 && meant.clone().all(|c| c.plain);
                let rule = self.masks.strictest(meant.flat_map(|c| &c.classes));
                rule.map(|rule| Found { rule, plain })
            }
            // It held nothing classified. By the text it has its own name, by the result what it is
            // called there.
            None if column.table_oid != 0 && column.attnum != 0 => match place {
                Place::Output(Output::Column(_) | Output::Columns(_)) => None,
                _ => self.by_pattern(statement, &name),
            },
            None => self.of_unknown_origin(statement, place).or_else(|| {
                let lost = !self.catalog.is_known();
                lost.then(|| self.by_pattern(statement, &name)).flatten()
            }),
        };
        // The server knows of each column what it is; by the text it may be one of several.
        let mask = match (by_origin, by_text) {
            (Some(origin), _) if origin.plain => Some(origin),
            (one, other) => self.strictest_found(one.into_iter().chain(other)),
        };
        let hint = match place {
            Place::Output(output) => hint_of(output),
            Place::Row(..) | Place::Among(_) | Place::Unknown => Kinds::default(),
        };
        let hint = hint.or(Kinds::hinted_by(&column.name));
        self.treat(mask, hint, (column.type_oid, column.modifier), column.format)
    }

    /// The columns of a COPY TO STDOUT.
    pub(super) fn copy_columns(
        &self,
        statement: &Analysis,
        count: usize,
        format: Format,
    ) -> Vec<Treatment> {
        let Some(copy) = &statement.copy else {
            return (0..count).map(|_| self.widest(format)).collect();
        };
        let Some(table) = &copy.table else {
            let places = places(statement, count, &self.catalog);
            let column = |place| self.copied(statement, place, format);
            return places.into_iter().map(column).collect();
        };
        (0..count)
            .map(|at| {
                let list = copy.columns.as_deref().filter(|list| list.len() == count);
                self.table_column(table, copy.columns.is_some(), list, at, count, format)
            })
            .collect()
    }

    /// A column of `COPY (query)`.
    fn copied(&self, statement: &Analysis, place: Place<'_>, format: Format) -> Treatment {
        let name = match place {
            Place::Output(Output::Column(from)) => &*from.column,
            Place::Output(Output::Columns(from)) => from.first().map_or("", |c| &*c.column),
            _ => "",
        };
        let name = name.as_bytes().to_vec();
        let (type_oid, modifier) = match place {
            Place::Output(Output::Column(from)) => self.catalog.type_of(from).unwrap_or(UNTYPED),
            _ => UNTYPED,
        };
        let column = Column { name, table_oid: 0, attnum: 0, type_oid, modifier, format };
        self.column(statement, place, &column)
    }

    /// A column of `COPY table`, with a list of columns or without.
    fn table_column(
        &self,
        table: &TableName,
        listed: bool,
        list: Option<&[std::sync::Arc<str>]>,
        at: usize,
        count: usize,
        format: Format,
    ) -> Treatment {
        let mut relations = self.catalog.named(table);
        let (relation, several) = (relations.next(), relations.next().is_some());
        let named = match (list, relation) {
            _ if several => None,
            (Some(list), relation) => list.get(at).map(|name| {
                let column = relation.and_then(|r| r.columns.iter().find(|c| c.name == **name));
                (&**name, column.map_or(UNTYPED, |c| (c.type_oid, c.modifier)))
            }),
            (None, Some(relation)) if !listed && relation.stored().count() == count => {
                relation.stored().nth(at).map(|c| (&*c.name, (c.type_oid, c.modifier)))
            }
            // Not listed by a probe that lists all that holds a classified column.
            (None, None)
                if !listed && self.catalog.is_known() && self.by_name(table, "*").is_none() =>
            {
                return self.treat(None, Kinds::default(), UNTYPED, format);
            }
            _ => None,
        };
        let Some((name, kind)) = named else { return self.widest(format) };
        let hint = Kinds::hinted_by(name.as_bytes());
        let column = ColumnName { table: table.clone(), column: name.into() };
        self.treat(self.by_output(&Output::Column(column)), hint, kind, format)
    }

    fn widest(&self, format: Format) -> Treatment {
        self.treat(self.any_rule(), Kinds::default(), UNTYPED, format)
    }

    /// The treatment of a column of a type, by its OID and modifier.
    fn treat(
        &self,
        mask: Option<Found>,
        hint: Kinds,
        (type_oid, modifier): (u32, i32),
        format: Format,
    ) -> Treatment {
        let hint = hint.and(self.masks.kinds);
        let kind = match (mask, shape(type_oid, format)) {
            (Some(Found { rule, plain: true }), _) => TreatmentKind::Mask(rule),
            (Some(Found { rule, plain: false }), _) => derived(rule),
            (None, _) if self.masks.kinds.is_empty() => TreatmentKind::Pass,
            (None, Shape::Plain | Shape::Uuid) => TreatmentKind::Pass,
            (None, Shape::Integer) if hint.is_empty() => TreatmentKind::Pass,
            (None, _) if hint.is_empty() => TreatmentKind::Inspect,
            (None, _) => hinted(hint),
        };
        Treatment { kind, type_oid, modifier, format }
    }

    /// The rule for what an output is known to come from.
    fn by_output(&self, output: &Output) -> Option<Found> {
        match output {
            Output::Column(column) => {
                let rule = self.by_name(&column.table, &column.column)?;
                Some(Found { rule, plain: self.catalog.is_plain(column) })
            }
            Output::Columns(columns) | Output::Several(Some(columns)) => {
                let rules = columns.iter().filter_map(|c| self.by_name(&c.table, &c.column));
                Some(Found { rule: self.masks.stricter(rules)?, plain: false })
            }
            Output::Row(table) => Some(Found { rule: self.by_name(table, "*")?, plain: false }),
            Output::Opaque | Output::Several(None) => None,
        }
    }

    /// By the analysis of the text; what it does not know has the classes of all the statement
    /// reads, or any where it may read more than it says.
    fn of_unknown_origin(&self, statement: &Analysis, place: Place<'_>) -> Option<Found> {
        let among = match place {
            Place::Output(output) => std::slice::from_ref(output),
            Place::Among(outputs) => outputs,
            Place::Row(table, at) => {
                let column = format!("#{}", at + 1).into();
                let column = ColumnName { table: table.clone(), column };
                return self.by_output(&Output::Column(column));
            }
            Place::Unknown => &[],
        };
        let unknown = |o: &Output| matches!(o, Output::Opaque | Output::Several(None));
        if !among.is_empty() && !among.iter().any(unknown) {
            return self.strictest_found(among.iter().filter_map(|o| self.by_output(o)));
        }
        let mut tables = statement.accesses.iter().filter_map(|a| a.table.as_ref()).peekable();
        if reads_unsaid(statement) || brings_unsaid(statement) {
            return self.any_rule();
        }
        if !self.catalog.is_known() {
            return self
                .any_rule()
                .filter(|_| tables.peek().is_some() || !statement.functions.is_empty());
        }
        let rule = self.masks.stricter(tables.filter_map(|table| self.by_name(table, "*")));
        rule.map(|rule| Found { rule, plain: false })
    }

    /// Whether what a statement returns may be a rule's or a trigger's to say; the server describes it as the
    /// columns that it stands for.
    fn returns_by_rule(&self, statement: &Analysis) -> bool {
        let writes = |access: &&Access| access.action.class() >= Class::Write;
        let mut written = statement.accesses.iter().filter(writes).filter_map(|a| a.table.as_ref());
        written.any(|table| self.catalog.has_rule(table))
    }

    fn any_rule(&self) -> Option<Found> {
        self.masks.strictest_of_all().map(|rule| Found { rule, plain: false })
    }

    fn strictest_found(&self, found: impl Iterator<Item = Found>) -> Option<Found> {
        let found: Vec<Found> = found.collect();
        let rule = self.masks.stricter(found.iter().map(|f| f.rule))?;
        Some(Found { rule, plain: found.iter().all(|f| f.plain) })
    }

    /// The rule for a column by name: from the catalog, or from the patterns themselves.
    fn by_name(&self, table: &TableName, column: &str) -> Option<u16> {
        let classes = self.catalog.classes_named(&self.masks.classification, table, column);
        self.masks.strictest(classes)
    }

    /// The rule a column's own name suggests on any of the tables read.
    fn by_pattern(&self, statement: &Analysis, column: &str) -> Option<Found> {
        let tables = statement.accesses.iter().filter_map(|a| a.table.as_ref());
        let rule = self.masks.stricter(tables.filter_map(|table| {
            let classes = self.masks.classification.classes_of(table, column);
            self.masks.strictest(classes.map(|c| &c.name))
        }));
        rule.map(|rule| Found { rule, plain: false })
    }

    /// What the server's own texts about a statement may hold of masked values.
    pub(super) fn quoted_by(&self, statement: &Analysis) -> Quotes {
        let mut tables = statement.accesses.iter().filter_map(|a| a.table.as_ref()).peekable();
        let lost = !self.catalog.is_known() && tables.peek().is_some();
        if self.masks.rules.is_empty() {
            Quotes::Nothing
        } else if matches!(statement.verb, "COMMIT" | "PREPARE TRANSACTION" | "SET CONSTRAINTS") {
            // What constraints and triggers that were put off have to say.
            Quotes::Values
        } else if reads_unsaid(statement) {
            Quotes::Anything
        } else if lost || tables.any(|table| self.by_name(table, "*").is_some()) {
            Quotes::Values
        } else if statement.class() >= Class::Write {
            Quotes::Code
        } else {
            Quotes::Nothing
        }
    }
}

impl Masks {
    /// The masked classes that a statement probes ([`Analysis::probes`]) in a database whose
    /// columns are `catalog`'s.
    pub fn probed(&self, catalog: &Catalog, statement: &Analysis) -> Vec<DataClass> {
        let mut probed: Vec<DataClass> = statement
            .probes
            .iter()
            .flat_map(|c| catalog.classes_named(&self.classification, &c.table, &c.column))
            .filter(|class| self.rules.iter().any(|rule| rule.class == **class))
            .cloned()
            .collect();
        probed.sort_unstable();
        probed.dedup();
        probed
    }
}

/// Whether a statement may read what its text does not name.
fn reads_unsaid(statement: &Analysis) -> bool {
    let unsaid = Risk::OPAQUE | Risk::UNKNOWN_FUNCTION | Risk::UNPARSED;
    statement.risks.intersects(unsaid) || matches!(statement.verb, "FETCH" | "FUNCTION")
}

/// Whether a statement that returns nothing by its text has rows all the same: a rule's.
fn brings_unsaid(statement: &Analysis) -> bool {
    statement.outputs.is_none()
        && matches!(statement.verb, "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "SELECT INTO")
}

fn hint_of(output: &Output) -> Kinds {
    let columns = match output {
        Output::Column(column) => std::slice::from_ref(column),
        Output::Columns(columns) => columns,
        Output::Opaque | Output::Row(_) | Output::Several(_) => &[],
    };
    columns.iter().fold(Kinds::default(), |hint, c| hint.or(Kinds::hinted_by(c.column.as_bytes())))
}

/// What the text says of each of `count` columns.
fn places<'s>(statement: &'s Analysis, count: usize, catalog: &Catalog) -> Vec<Place<'s>> {
    let Some(outputs) = &statement.outputs else { return vec![Place::Unknown; count] };
    let width = |output: &Output| match output {
        Output::Column(_) | Output::Columns(_) | Output::Opaque => Some(1),
        Output::Row(table) => catalog.width(table),
        Output::Several(_) => None,
    };
    let widths: Vec<Option<usize>> = outputs.iter().map(width).collect();
    let known: usize = widths.iter().flatten().sum();
    let open = widths.iter().filter(|width| width.is_none()).count();
    // With one of unknown width, that is what is left; with more, only what stands before the first
    // and behind the last of them has its place.
    let rest = count.checked_sub(known);
    let Some(rest) = rest.filter(|rest| open > 0 || *rest == 0) else {
        // The text is not what the server ran.
        return vec![Place::Unknown; count];
    };
    let first = widths.iter().position(Option::is_none);
    let last = widths.iter().rposition(Option::is_none);
    let mut places = Vec::with_capacity(count);
    for (at, (output, width)) in outputs.iter().zip(&widths).enumerate() {
        match (first, last) {
            (Some(first), Some(last)) if first < last && (first..=last).contains(&at) => {
                if at == first {
                    let inside = widths.get(first..=last).unwrap_or_default();
                    let reach = rest + inside.iter().flatten().sum::<usize>();
                    let among = Place::Among(outputs.get(first..=last).unwrap_or_default());
                    places.extend(std::iter::repeat_n(among, reach));
                }
            }
            _ => {
                let width = width.unwrap_or(rest);
                places.extend((0..width).map(|at| match output {
                    Output::Row(table) => Place::Row(table, at),
                    output => Place::Output(output),
                }));
            }
        }
    }
    places.truncate(count);
    places.resize(count, Place::Among(outputs));
    places
}
