//! COPY.

use pg_query::protobuf::{CopyStmt, DefElem, a_const};
use pg_query::{Node, NodeEnum};
use types::command::{Action, ColumnName, Copy, CopyFormat, Output, Risk};

use super::export;
use super::names;
use super::query::Visitor;

impl Visitor<'_> {
    /// Visits a COPY. What its data holds goes to the facts' outputs and copy.
    pub(super) fn copy(&mut self, copy: &CopyStmt) {
        let CopyStmt {
            relation,
            query,
            attlist,
            is_from,
            is_program,
            filename,
            options,
            where_clause,
        } = copy;
        let table = relation.as_ref().map(names::table);
        let columns = (!attlist.is_empty()).then(|| names::shared(attlist));
        if let Some(table) = &table {
            let action = if *is_from { Action::Insert } else { Action::Select };
            self.facts.table(action, Some(table.clone()));
            self.brings_all |= !*is_from && relation.as_ref().is_some_and(export::is_data);
            for column in columns.iter().flatten().filter(|_| *is_from) {
                self.facts.write(table, column);
            }
            if let (Some(columns), false) = (&columns, *is_from) {
                let output = |column| Output::Column(ColumnName { table: table.clone(), column });
                self.facts.outputs = Some(columns.iter().cloned().map(output).collect());
            }
        } else {
            let rows = self.query(query.as_deref());
            self.facts.outputs = Some(rows.outputs());
        }
        self.export();
        if where_clause.is_some() {
            self.scoped(None, |visitor| {
                if let Some(relation) = relation {
                    let rows = super::lineage::Relation::base(names::table(relation));
                    visitor.scopes.push(super::lineage::Item::new(&relation.relname, rows.into()));
                }
                visitor.probe(where_clause.as_deref());
            });
        }
        if *is_program || !filename.is_empty() {
            self.facts.risks |= Risk::COPY_PROGRAM;
            self.facts.database(Action::Admin);
            return;
        }
        let format = format(options);
        let quote = byte(options, "quote").unwrap_or(b'"');
        if option(options, "encoding").is_some() {
            // In another encoding than the session's the bytes may mean something else.
            self.facts.risks |= Risk::OPAQUE;
        }
        self.facts.copy = Some(Copy {
            table,
            columns,
            format,
            header: option(options, "header").is_some_and(is_on),
            delimiter: byte(options, "delimiter").unwrap_or(if format == CopyFormat::Csv {
                b','
            } else {
                b'\t'
            }),
            quote,
            escape: byte(options, "escape").unwrap_or(quote),
            null: option(options, "null").and_then(value).map(Into::into),
        });
    }
}

fn format(options: &[Node]) -> CopyFormat {
    match option(options, "format").and_then(value) {
        Some("csv") => CopyFormat::Csv,
        Some("binary") => CopyFormat::Binary,
        _ => CopyFormat::Text,
    }
}

fn option<'a>(options: &'a [Node], name: &str) -> Option<&'a DefElem> {
    options.iter().find_map(|option| match &option.node {
        Some(NodeEnum::DefElem(option)) if option.defname == name => Some(&**option),
        _ => None,
    })
}

/// The one byte that an option is.
fn byte(options: &[Node], name: &str) -> Option<u8> {
    option(options, name).and_then(value)?.as_bytes().first().copied()
}

fn value(option: &DefElem) -> Option<&str> {
    names::string(option.arg.as_deref()?)
}

/// Whether a boolean option (or `HEADER MATCH`) is on: it is where it has no value.
fn is_on(option: &DefElem) -> bool {
    match option.arg.as_deref().and_then(|arg| arg.node.as_ref()) {
        None => true,
        Some(NodeEnum::Boolean(on)) => on.boolval,
        Some(NodeEnum::Integer(on)) => on.ival != 0,
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(a_const::Val::Boolval(on)) => on.boolval,
            Some(a_const::Val::Ival(on)) => on.ival != 0,
            Some(a_const::Val::Sval(on)) => is_on_word(&on.sval),
            _ => false,
        },
        Some(NodeEnum::String(on)) => is_on_word(&on.sval),
        Some(_) => false,
    }
}

fn is_on_word(word: &str) -> bool {
    ["true", "on", "match", "1"].iter().any(|on| word.eq_ignore_ascii_case(on))
}
