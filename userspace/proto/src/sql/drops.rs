//! DROP, and the verbs that go with each kind of object.

use pg_query::Node;
use pg_query::protobuf::{DropStmt, ObjectType};
use types::command::{Action, Risk};

use super::names;
use super::query::Visitor;

impl Visitor<'_> {
    /// Visits a DROP; its verb.
    pub(super) fn drop_objects(&mut self, drop: &DropStmt) -> &'static str {
        let DropStmt { objects, remove_type, behavior: _, missing_ok: _, concurrent: _ } = drop;
        self.facts.risks |= Risk::DDL;
        let kind = object_type(*remove_type);
        for object in objects {
            self.facts.table(Action::Ddl, dropped(kind, object));
        }
        if kind == ObjectType::ObjectPolicy {
            self.facts.privilege(None);
        }
        drop_verb(kind)
    }
}

/// The relation that a dropped object is, or belongs to.
fn dropped(kind: ObjectType, object: &Node) -> Option<types::command::TableName> {
    let parts = names::parts(object);
    match kind {
        ObjectType::ObjectTable
        | ObjectType::ObjectView
        | ObjectType::ObjectMatview
        | ObjectType::ObjectForeignTable
        | ObjectType::ObjectSequence
        | ObjectType::ObjectIndex => names::table_of_path(&parts),
        ObjectType::ObjectTrigger | ObjectType::ObjectRule | ObjectType::ObjectPolicy => {
            names::table_of_path(parts.split_last()?.1)
        }
        _ => None,
    }
}

fn object_type(kind: i32) -> ObjectType {
    ObjectType::try_from(kind).unwrap_or(ObjectType::Undefined)
}

fn drop_verb(kind: ObjectType) -> &'static str {
    match kind {
        ObjectType::ObjectTable => "DROP TABLE",
        ObjectType::ObjectView => "DROP VIEW",
        ObjectType::ObjectMatview => "DROP MATERIALIZED VIEW",
        ObjectType::ObjectForeignTable => "DROP FOREIGN TABLE",
        ObjectType::ObjectSequence => "DROP SEQUENCE",
        ObjectType::ObjectIndex => "DROP INDEX",
        ObjectType::ObjectSchema => "DROP SCHEMA",
        ObjectType::ObjectFunction => "DROP FUNCTION",
        ObjectType::ObjectProcedure => "DROP PROCEDURE",
        ObjectType::ObjectRoutine => "DROP ROUTINE",
        ObjectType::ObjectAggregate => "DROP AGGREGATE",
        ObjectType::ObjectTrigger => "DROP TRIGGER",
        ObjectType::ObjectEventTrigger => "DROP EVENT TRIGGER",
        ObjectType::ObjectRule => "DROP RULE",
        ObjectType::ObjectPolicy => "DROP POLICY",
        ObjectType::ObjectType => "DROP TYPE",
        ObjectType::ObjectDomain => "DROP DOMAIN",
        ObjectType::ObjectExtension => "DROP EXTENSION",
        ObjectType::ObjectLanguage => "DROP LANGUAGE",
        ObjectType::ObjectForeignServer => "DROP SERVER",
        ObjectType::ObjectPublication => "DROP PUBLICATION",
        _ => "DROP",
    }
}

/// The verb of a CREATE of the older, uniform kind.
pub(super) fn create_verb(kind: i32) -> &'static str {
    match object_type(kind) {
        ObjectType::ObjectAggregate => "CREATE AGGREGATE",
        ObjectType::ObjectOperator => "CREATE OPERATOR",
        ObjectType::ObjectType => "CREATE TYPE",
        ObjectType::ObjectCollation => "CREATE COLLATION",
        ObjectType::ObjectTsparser => "CREATE TEXT SEARCH PARSER",
        ObjectType::ObjectTsdictionary => "CREATE TEXT SEARCH DICTIONARY",
        ObjectType::ObjectTstemplate => "CREATE TEXT SEARCH TEMPLATE",
        ObjectType::ObjectTsconfiguration => "CREATE TEXT SEARCH CONFIGURATION",
        _ => "CREATE",
    }
}

/// The verb of an ALTER of a relation.
pub(super) fn alter_verb(kind: i32) -> &'static str {
    match object_type(kind) {
        ObjectType::ObjectTable => "ALTER TABLE",
        ObjectType::ObjectView => "ALTER VIEW",
        ObjectType::ObjectMatview => "ALTER MATERIALIZED VIEW",
        ObjectType::ObjectForeignTable => "ALTER FOREIGN TABLE",
        ObjectType::ObjectSequence => "ALTER SEQUENCE",
        ObjectType::ObjectIndex => "ALTER INDEX",
        ObjectType::ObjectType => "ALTER TYPE",
        _ => "ALTER",
    }
}
