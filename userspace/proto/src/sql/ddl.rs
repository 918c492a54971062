//! Statements that define or alter objects, or say who may do what.

use pg_query::protobuf::{
    AlterTableStmt, AlterTableType, ColumnDef, Constraint, CreateFunctionStmt, CreateStmt,
    GrantStmt, IndexStmt, ObjectType, RuleStmt, ViewStmt,
};
use pg_query::{Node, NodeEnum};
use types::command::{Action, Risk};

use super::drops;
use super::lineage::{Item, Relation};
use super::names;
use super::query::Visitor;

impl Visitor<'_> {
    /// GRANT, REVOKE, roles, policies.
    pub(super) fn privileges(&mut self, kind: &NodeEnum) -> Option<&'static str> {
        let verb = match kind {
            NodeEnum::GrantStmt(grant) => return Some(self.grant(grant)),
            NodeEnum::GrantRoleStmt(grant) if grant.is_grant => "GRANT",
            NodeEnum::GrantRoleStmt(_) => "REVOKE",
            NodeEnum::AlterDefaultPrivilegesStmt(_) => "ALTER DEFAULT PRIVILEGES",
            NodeEnum::CreateRoleStmt(_) => "CREATE ROLE",
            NodeEnum::AlterRoleStmt(_) | NodeEnum::AlterRoleSetStmt(_) => "ALTER ROLE",
            NodeEnum::DropRoleStmt(_) => "DROP ROLE",
            NodeEnum::DropOwnedStmt(_) => {
                self.facts.ddl(None);
                "DROP OWNED"
            }
            NodeEnum::ReassignOwnedStmt(_) => "REASSIGN OWNED",
            NodeEnum::AlterOwnerStmt(alter) => {
                self.facts.ddl(alter.relation.as_ref());
                "ALTER OWNER"
            }
            NodeEnum::CreatePolicyStmt(policy) => {
                self.facts.ddl(policy.table.as_ref());
                self.on_table(
                    policy.table.as_ref(),
                    &[policy.qual.as_deref(), policy.with_check.as_deref()],
                );
                "CREATE POLICY"
            }
            NodeEnum::AlterPolicyStmt(policy) => {
                self.facts.ddl(policy.table.as_ref());
                self.on_table(
                    policy.table.as_ref(),
                    &[policy.qual.as_deref(), policy.with_check.as_deref()],
                );
                "ALTER POLICY"
            }
            NodeEnum::SecLabelStmt(_) => {
                self.facts.ddl(None);
                "SECURITY LABEL"
            }
            _ => return None,
        };
        self.facts.privilege(None);
        Some(verb)
    }

    /// Tables, views, indexes, sequences.
    pub(super) fn define_relation(&mut self, kind: &NodeEnum) -> Option<&'static str> {
        Some(match kind {
            NodeEnum::CreateStmt(create) => {
                self.create_table(create);
                "CREATE TABLE"
            }
            NodeEnum::CreateForeignTableStmt(create) => {
                self.facts.risks |= Risk::OPAQUE;
                match &create.base_stmt {
                    Some(base) => self.create_table(base),
                    None => self.facts.unknown(),
                }
                "CREATE FOREIGN TABLE"
            }
            NodeEnum::AlterTableStmt(alter) => self.alter_table(alter),
            NodeEnum::AlterTableMoveAllStmt(_) => {
                self.facts.ddl(None);
                "ALTER TABLE"
            }
            NodeEnum::ViewStmt(view) => {
                let ViewStmt {
                    view,
                    aliases: _,
                    query,
                    replace: _,
                    options: _,
                    with_check_option: _,
                } = &**view;
                self.nested(query.as_deref());
                self.facts.risks -= Risk::FULL_EXPORT;
                self.facts.ddl(view.as_ref());
                "CREATE VIEW"
            }
            NodeEnum::RefreshMatViewStmt(refresh) => {
                self.facts.ddl(refresh.relation.as_ref());
                "REFRESH MATERIALIZED VIEW"
            }
            NodeEnum::IndexStmt(index) => {
                self.create_index(index);
                "CREATE INDEX"
            }
            NodeEnum::CreateStatsStmt(statistics) => {
                self.facts.ddl(None);
                self.scoped(None, |visitor| {
                    statistics.relations.iter().for_each(|relation| visitor.from(relation));
                    visitor.exprs(&statistics.exprs);
                });
                "CREATE STATISTICS"
            }
            NodeEnum::CreateSeqStmt(sequence) => {
                self.facts.ddl(sequence.sequence.as_ref());
                "CREATE SEQUENCE"
            }
            NodeEnum::AlterSeqStmt(sequence) => {
                self.facts.ddl(sequence.sequence.as_ref());
                "ALTER SEQUENCE"
            }
            NodeEnum::DropStmt(drop) => self.drop_objects(drop),
            _ => return None,
        })
    }

    /// Code that runs later, and links to other hosts: what they do is not in this text.
    pub(super) fn define_code(&mut self, kind: &NodeEnum) -> Option<&'static str> {
        let (verb, relation) = match kind {
            NodeEnum::CreateFunctionStmt(function) => (self.create_function(function), None),
            NodeEnum::AlterFunctionStmt(_) => ("ALTER FUNCTION", None),
            NodeEnum::CreateTrigStmt(trigger) => {
                self.facts.call(&names::path(&trigger.funcname));
                self.on_trigger(trigger.relation.as_ref(), trigger.when_clause.as_deref());
                ("CREATE TRIGGER", trigger.relation.as_ref())
            }
            NodeEnum::CreateEventTrigStmt(trigger) => {
                self.facts.call(&names::path(&trigger.funcname));
                ("CREATE EVENT TRIGGER", None)
            }
            NodeEnum::AlterEventTrigStmt(_) => ("ALTER EVENT TRIGGER", None),
            NodeEnum::RuleStmt(rule) => {
                self.rule(rule);
                ("CREATE RULE", rule.relation.as_ref())
            }
            NodeEnum::CreateExtensionStmt(_) => ("CREATE EXTENSION", None),
            NodeEnum::AlterExtensionStmt(_) | NodeEnum::AlterExtensionContentsStmt(_) => {
                ("ALTER EXTENSION", None)
            }
            NodeEnum::CreatePlangStmt(_) => ("CREATE LANGUAGE", None),
            NodeEnum::CreateAmStmt(_) => ("CREATE ACCESS METHOD", None),
            NodeEnum::CreateTransformStmt(_) => ("CREATE TRANSFORM", None),
            NodeEnum::CreateCastStmt(_) => ("CREATE CAST", None),
            NodeEnum::CreateConversionStmt(_) => ("CREATE CONVERSION", None),
            NodeEnum::CreateOpClassStmt(_) => ("CREATE OPERATOR CLASS", None),
            NodeEnum::CreateFdwStmt(_) => ("CREATE FOREIGN DATA WRAPPER", None),
            NodeEnum::AlterFdwStmt(_) => ("ALTER FOREIGN DATA WRAPPER", None),
            NodeEnum::CreateForeignServerStmt(_) => ("CREATE SERVER", None),
            NodeEnum::AlterForeignServerStmt(_) => ("ALTER SERVER", None),
            NodeEnum::CreateUserMappingStmt(_) => ("CREATE USER MAPPING", None),
            NodeEnum::AlterUserMappingStmt(_) => ("ALTER USER MAPPING", None),
            NodeEnum::DropUserMappingStmt(_) => ("DROP USER MAPPING", None),
            NodeEnum::ImportForeignSchemaStmt(_) => ("IMPORT FOREIGN SCHEMA", None),
            NodeEnum::CreateSubscriptionStmt(_) => ("CREATE SUBSCRIPTION", None),
            NodeEnum::AlterSubscriptionStmt(_) => ("ALTER SUBSCRIPTION", None),
            NodeEnum::DropSubscriptionStmt(_) => ("DROP SUBSCRIPTION", None),
            NodeEnum::DefineStmt(define) => (drops::create_verb(define.kind), None),
            _ => return None,
        };
        self.facts.risks |= Risk::OPAQUE;
        self.facts.ddl(relation);
        Some(verb)
    }

    /// Schemas, types, databases and the rest.
    pub(super) fn define_other(&mut self, kind: &NodeEnum) -> Option<&'static str> {
        let (verb, admin) = match kind {
            NodeEnum::CreateSchemaStmt(schema) => {
                schema.schema_elts.iter().for_each(|element| {
                    self.nested(Some(element));
                });
                ("CREATE SCHEMA", false)
            }
            NodeEnum::CreateDomainStmt(domain) => {
                self.elements(&domain.constraints);
                ("CREATE DOMAIN", false)
            }
            NodeEnum::AlterDomainStmt(_) => ("ALTER DOMAIN", false),
            NodeEnum::CompositeTypeStmt(_)
            | NodeEnum::CreateEnumStmt(_)
            | NodeEnum::CreateRangeStmt(_) => ("CREATE TYPE", false),
            NodeEnum::AlterEnumStmt(_) | NodeEnum::AlterTypeStmt(_) => ("ALTER TYPE", false),
            NodeEnum::AlterCollationStmt(_) => ("ALTER COLLATION", false),
            NodeEnum::AlterOperatorStmt(_) => ("ALTER OPERATOR", false),
            NodeEnum::CreateOpFamilyStmt(_) => ("CREATE OPERATOR FAMILY", false),
            NodeEnum::AlterOpFamilyStmt(_) => ("ALTER OPERATOR FAMILY", false),
            NodeEnum::AlterStatsStmt(_) => ("ALTER STATISTICS", false),
            NodeEnum::AlterTsdictionaryStmt(_) => ("ALTER TEXT SEARCH DICTIONARY", false),
            NodeEnum::AlterTsconfigurationStmt(_) => ("ALTER TEXT SEARCH CONFIGURATION", false),
            NodeEnum::CreatePublicationStmt(_) => ("CREATE PUBLICATION", true),
            NodeEnum::AlterPublicationStmt(_) => ("ALTER PUBLICATION", true),
            NodeEnum::CreateTableSpaceStmt(_) => ("CREATE TABLESPACE", true),
            NodeEnum::DropTableSpaceStmt(_) => ("DROP TABLESPACE", true),
            NodeEnum::AlterTableSpaceOptionsStmt(_) => ("ALTER TABLESPACE", true),
            NodeEnum::CreatedbStmt(_) => ("CREATE DATABASE", true),
            NodeEnum::DropdbStmt(_) => ("DROP DATABASE", true),
            NodeEnum::AlterDatabaseStmt(_) | NodeEnum::AlterDatabaseRefreshCollStmt(_) => {
                ("ALTER DATABASE", true)
            }
            NodeEnum::AlterDatabaseSetStmt(alter) => {
                if let Some(set) = &alter.setstmt {
                    self.set(set);
                }
                ("ALTER DATABASE", true)
            }
            _ => return None,
        };
        if admin {
            self.facts.database(Action::Admin);
        }
        self.facts.ddl(None);
        Some(verb)
    }

    /// Comments, names, schemas and dependencies of any object.
    pub(super) fn alter_any(&mut self, kind: &NodeEnum) -> Option<&'static str> {
        let (verb, relation) = match kind {
            NodeEnum::CommentStmt(_) => ("COMMENT", None),
            NodeEnum::RenameStmt(rename) => ("ALTER RENAME", rename.relation.as_ref()),
            NodeEnum::AlterObjectSchemaStmt(alter) => ("ALTER SET SCHEMA", alter.relation.as_ref()),
            NodeEnum::AlterObjectDependsStmt(alter) => ("ALTER DEPENDS", alter.relation.as_ref()),
            _ => return None,
        };
        if let NodeEnum::RenameStmt(rename) = kind
            && rename.rename_type == ObjectType::ObjectRole as i32
        {
            self.facts.privilege(None);
        }
        self.facts.ddl(relation);
        Some(verb)
    }

    fn grant(&mut self, grant: &GrantStmt) -> &'static str {
        let GrantStmt {
            is_grant,
            targtype: _,
            objtype: _,
            objects,
            privileges: _,
            grantees: _,
            ..
        } = grant;
        let mut named = false;
        for object in objects {
            if let Some(NodeEnum::RangeVar(relation)) = &object.node {
                self.facts.privilege(Some(relation));
                named = true;
            }
        }
        if !named {
            self.facts.privilege(None);
        }
        if *is_grant { "GRANT" } else { "REVOKE" }
    }

    fn create_table(&mut self, create: &CreateStmt) {
        self.facts.ddl(create.relation.as_ref());
        self.relations(Action::Select, &create.inh_relations);
        if let Some(spec) = &create.partspec {
            self.scoped(None, |visitor| visitor.exprs(&spec.part_params));
        }
        self.elements(&create.table_elts);
        self.elements(&create.constraints);
    }

    /// Visits columns, constraints and whatever else a table definition consists of.
    fn elements(&mut self, elements: &[Node]) {
        self.scoped(None, |visitor| elements.iter().for_each(|element| visitor.element(element)));
    }

    fn element(&mut self, element: &Node) {
        match &element.node {
            Some(NodeEnum::ColumnDef(column)) => {
                let ColumnDef { raw_default, constraints, .. } = &**column;
                self.expr(raw_default.as_deref());
                for constraint in constraints {
                    self.element(constraint);
                }
            }
            Some(NodeEnum::Constraint(constraint)) => {
                let Constraint { raw_expr, where_clause, .. } = &**constraint;
                self.expr(raw_expr.as_deref());
                self.expr(where_clause.as_deref());
            }
            Some(NodeEnum::TableLikeClause(like)) => {
                self.facts.relation(Action::Select, like.relation.as_ref());
            }
            _ => self.facts.unknown(),
        }
    }

    fn alter_table(&mut self, alter: &AlterTableStmt) -> &'static str {
        let AlterTableStmt { relation, cmds, objtype, missing_ok: _ } = alter;
        self.facts.ddl(relation.as_ref());
        for command in cmds {
            let Some(NodeEnum::AlterTableCmd(command)) = &command.node else {
                self.facts.unknown();
                continue;
            };
            match AlterTableType::try_from(command.subtype) {
                Ok(
                    AlterTableType::AtChangeOwner
                    | AlterTableType::AtEnableRowSecurity
                    | AlterTableType::AtDisableRowSecurity
                    | AlterTableType::AtForceRowSecurity
                    | AlterTableType::AtNoForceRowSecurity,
                ) => self.facts.privilege(relation.as_ref()),
                Ok(_) => {}
                Err(_) => self.facts.unknown(),
            }
            self.alter_definition(command.def.as_deref());
        }
        drops::alter_verb(*objtype)
    }

    fn alter_definition(&mut self, definition: Option<&Node>) {
        let Some(definition) = definition else { return };
        match &definition.node {
            Some(NodeEnum::ColumnDef(_) | NodeEnum::Constraint(_)) => {
                self.elements(std::slice::from_ref(definition));
            }
            Some(NodeEnum::RangeVar(other)) => self.facts.ddl(Some(other)),
            Some(NodeEnum::PartitionCmd(partition)) => self.facts.ddl(partition.name.as_ref()),
            // Options, storage, identity, statistics targets: nothing that runs.
            Some(
                NodeEnum::List(_)
                | NodeEnum::String(_)
                | NodeEnum::Integer(_)
                | NodeEnum::DefElem(_)
                | NodeEnum::ReplicaIdentityStmt(_)
                | NodeEnum::AtalterConstraint(_)
                | NodeEnum::TypeName(_),
            ) => {}
            _ => drop(self.scoped(None, |visitor| visitor.expr(Some(definition)))),
        }
    }

    fn create_index(&mut self, index: &IndexStmt) {
        self.facts.ddl(index.relation.as_ref());
        self.on_table(index.relation.as_ref(), &[index.where_clause.as_deref()]);
        self.scoped(None, |visitor| visitor.exprs(&index.index_params));
    }

    fn create_function(&mut self, function: &CreateFunctionStmt) -> &'static str {
        let CreateFunctionStmt { is_procedure, parameters, sql_body, .. } = function;
        for parameter in parameters {
            if let Some(NodeEnum::FunctionParameter(parameter)) = &parameter.node {
                self.scoped(None, |visitor| visitor.expr(parameter.defexpr.as_deref()));
            }
        }
        self.body(sql_body.as_deref());
        if *is_procedure { "CREATE PROCEDURE" } else { "CREATE FUNCTION" }
    }

    /// Visits an SQL function's body: RETURN, or BEGIN ATOMIC with lists of statements.
    fn body(&mut self, body: Option<&Node>) {
        let Some(body) = body else { return };
        match &body.node {
            Some(NodeEnum::List(list)) => list.items.iter().for_each(|item| self.body(Some(item))),
            Some(NodeEnum::ReturnStmt(result)) => {
                self.scoped(None, |visitor| visitor.expr(result.returnval.as_deref()));
            }
            _ => {
                self.nested(Some(body));
            }
        }
    }

    fn rule(&mut self, rule: &RuleStmt) {
        self.on_trigger(rule.relation.as_ref(), rule.where_clause.as_deref());
        for action in &rule.actions {
            self.body(Some(action));
        }
    }

    fn on_trigger(
        &mut self,
        relation: Option<&pg_query::protobuf::RangeVar>,
        condition: Option<&Node>,
    ) {
        self.on_table(relation, &[condition]);
    }

    /// Visits expressions on one table's columns.
    fn on_table(
        &mut self,
        relation: Option<&pg_query::protobuf::RangeVar>,
        expressions: &[Option<&Node>],
    ) {
        self.scoped(None, |visitor| {
            if let Some(relation) = relation {
                let rows = Relation::base(names::table(relation));
                visitor.scopes.push(Item::new(&relation.relname, rows.into()));
            }
            for expression in expressions {
                visitor.expr(*expression);
            }
        });
    }
}
