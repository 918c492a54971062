//! Catalogs from rows as PostgreSQL 15 answered the probe.

use std::fmt::Write;

use types::command::{ColumnName, Output, TableName};

use crate::classification::Classification;
use crate::{Catalog, catalog_query};

fn classification() -> Classification {
    Classification::parse(
        "[[class]]\nname = \"us_ssn\"\ncolumns = [\"*.customers.ssn\", \"*.*_ssn\"]\n\
         [[class]]\nname = \"card\"\ncolumns = [\"public.customers.card\"]\n",
    )
    .unwrap()
}

/// What PostgreSQL 15 answered with: `customers` (`card` of a domain over text), partitioned `acc`,
/// `CREATE VIEW v AS SELECT ssn AS id, id AS x FROM customers`, a view of it, a materialized view.
/// The row for a table that is not classified (`plain`) and its view are not among them.
const ROWS: &str = "\
c|16390|public|customers|1|id|23|
c|16390|public|customers|2|ssn|25|
c|16390|public|customers|3|card|25|
c|16390|public|customers|4|email|25|
c|16404|public|acc|1|id|23|
c|16404|public|acc|2|old_ssn|25|
c|16407|public|acc_1|1|id|23|
c|16407|public|acc_1|2|old_ssn|25|
c|16412|public|v|1|id|25|
c|16412|public|v|2|x|23|
c|16416|public|vv|1|y|25|
c|16416|public|vv|2|x|23|
c|16420|public|mv|1|n|20|
d|16412|||||16390|
d|16416|||||16412|
d|16420|||||16390|
i|16404|||||16407|
i|16407|||||16404|
v|16412|||||| SELECT customers.ssn AS id, customers.id AS x FROM public.customers;
v|16416|||||| SELECT upper(v.id) AS y, v.x FROM public.v;
v|16420|||||| SELECT count(*) AS n FROM public.customers;";

fn rows(text: &str) -> Vec<Vec<Option<String>>> {
    let cell = |cell: &str| (!cell.is_empty()).then(|| cell.to_owned());
    text.lines().map(|line| line.split('|').map(cell).collect()).collect()
}

fn read(text: &str) -> Result<Catalog, crate::CatalogError> {
    Catalog::from_rows(&classification(), &rows(text), &Catalog::unknown())
}

fn columns(table: &str, names: &[&str]) -> Output {
    let table = TableName { schema: Some("public".into()), name: table.into() };
    let name = |c: &&str| ColumnName { table: table.clone(), column: (*c).into() };
    Output::Columns(names.iter().map(name).collect())
}

fn classes(catalog: &Catalog, oid: u32) -> Vec<String> {
    let columns = catalog.relation(oid).unwrap().columns.iter();
    let words = columns.map(|c| c.classes.iter().map(|d| &*d.0).collect::<Vec<_>>().join("+"));
    words.collect()
}

#[test]
fn functions_of_the_databases_own_are_known_by_name() {
    let catalog = read(&format!("{ROWS}\nn|0||||Round||\nn|0||||customer_key||")).unwrap();
    let known = |name| catalog.has_function(name);
    assert!(known("round") && known("customer_key") && !known("lower"));
    assert!(!Catalog::unknown().has_function("round"));
}

#[test]
fn a_view_has_all_classes_until_resolved_and_then_those_that_flow_in() {
    let mut catalog = read(ROWS).unwrap();
    assert_eq!(classes(&catalog, 16390), ["", "us_ssn", "card", ""]);
    for (oid, columns) in [(16412, 2), (16416, 2), (16420, 1)] {
        assert_eq!(classes(&catalog, oid), vec!["card+us_ssn"; columns]);
    }
    catalog.resolve_views(&classification(), |definition| match definition {
        d if d.contains("ssn AS id") => {
            Some(vec![columns("customers", &["ssn"]), columns("customers", &["id"])])
        }
        d if d.contains("upper") => Some(vec![columns("v", &["id"]), columns("v", &["x"])]),
        _ => Some(vec![Output::Columns(Vec::new())]),
    });
    assert_eq!(classes(&catalog, 16412), ["us_ssn", ""]);
    assert_eq!(classes(&catalog, 16416), ["us_ssn", ""]);
    assert_eq!(classes(&catalog, 16420), [""]);
}

#[test]
fn what_the_analysis_does_not_know_keeps_all_classes() {
    for outputs in [None, Some(vec![Output::Opaque; 2]), Some(vec![columns("customers", &["id"])])]
    {
        let mut catalog = read(ROWS).unwrap();
        catalog
            .resolve_views(&classification(), |d| outputs.clone().filter(|_| !d.contains("count")));
        assert_eq!(classes(&catalog, 16412), ["card+us_ssn", "card+us_ssn"], "{outputs:?}");
        assert_eq!(classes(&catalog, 16420), ["card+us_ssn"]);
    }
    let mut catalog = read(ROWS).unwrap();
    let whole = [columns("customers", &["*"]), columns("customers", &["no such"])];
    catalog.resolve_views(&classification(), |_| Some(whole.to_vec()));
    assert_eq!(classes(&catalog, 16412), ["card+us_ssn", "card+us_ssn"]);
}

#[test]
fn kin_share_classes_both_ways() {
    let catalog = read(ROWS).unwrap();
    assert_eq!(classes(&catalog, 16404), ["", "us_ssn"]);
    assert_eq!(classes(&catalog, 16407), ["", "us_ssn"]);
    let child_only = Classification::parse("[[class]]\nname = \"a\"\ncolumns = [\"acc_1.id\"]");
    let catalog =
        Catalog::from_rows(&child_only.unwrap(), &rows(ROWS), &Catalog::unknown()).unwrap();
    assert_eq!(classes(&catalog, 16404), ["a", ""]);
}

/// Rows of three readings: a table is renamed with its column, another leaves its parent, a view's
/// column is renamed and its definition is another; then the table is gone.
#[test]
fn a_new_name_takes_no_class_away() {
    let first = read(ROWS).unwrap();
    assert_eq!(first.classified(), [16390, 16404, 16407]);
    let second = ROWS
        .replace("|customers|2|ssn|", "|patrons|2|number|")
        .replace("|customers|", "|patrons|")
        .replace("i|16404|||||16407|\ni|16407|||||16404|\n", "")
        .replace("|acc_1|2|old_ssn|", "|acc_1|2|x|")
        .replace("|v|1|id|", "|v|1|other|");
    let second = Catalog::from_rows(&classification(), &rows(&second), &first).unwrap();
    assert_eq!(classes(&second, 16390), ["", "us_ssn", "card", ""]);
    assert_eq!(classes(&second, 16407), ["", "us_ssn"]);
    let renamed = ["public.patrons.number", "public.patrons.card", "public.acc_1.x"];
    assert_eq!(second.renamed(), renamed);
    assert!(first.renamed().is_empty());
    let again = Catalog::from_rows(&classification(), &rows(ROWS), &first).unwrap();
    assert!(again.renamed().is_empty() && again == first, "what holds anyway is not kept");
    let outputs = |catalog: &mut Catalog| {
        catalog.resolve_views(&classification(), |d| {
            d.contains("ssn AS id").then(|| vec![columns("patrons", &["id"]); 2])
        });
        classes(catalog, 16412)
    };
    assert_eq!(outputs(&mut second.clone()), ["", ""], "a view has what its definition says");
    let third = Catalog::from_rows(&classification(), &rows("c|16390|public|t|1|a|25|"), &second);
    assert_eq!(classes(&third.unwrap(), 16390), [""]);
}

#[test]
fn what_is_not_listed_may_hold_anything() {
    let text = format!("{ROWS}\nl|16500|public|plain|2|||\nl|16501|pg_temp_3|mine|1|||");
    let catalog = read(&text).unwrap();
    let all = ["us_ssn", "card"];
    for (schema, table, column, want) in [
        (None, "plain", "note", &[][..]),
        (Some("public"), "plain", "note", &[]),
        (Some("other"), "plain", "note", &all),
        (None, "made_since", "note", &all),
        (Some("pg_catalog"), "pg_class", "relname", &[]),
        (Some("pg_temp"), "mine", "note", &[]),
        (Some("pg_temp_3"), "mine", "note", &[]),
        (Some("pg_temp"), "plain", "note", &all),
        (Some("pg_tem"), "mine", "note", &all),
        (Some("public"), "customers", "email", &[]),
        (None, "customers", "card", &["card"]),
    ] {
        let table = TableName { schema: schema.map(Into::into), name: table.into() };
        let classification = classification();
        let found = catalog.classes_named(&classification, &table, column);
        let found: Vec<&str> = found.iter().map(|class| &*class.0).collect();
        assert_eq!(found, want, "{table}.{column}");
    }
    assert!(catalog.lists(16500, 2) && !catalog.lists(16500, 3) && !catalog.lists(16502, 1));
    assert!(
        catalog.lists(16390, -6) && catalog.lists(1259, 40) && !Catalog::unknown().lists(16500, 1)
    );
}

/// A chain of views in falling order of OIDs takes a round for each; past the bound it is masked.
#[test]
fn the_bound_on_rounds_masks_more_never_less() {
    let mut text = String::from("c|20000|public|customers|1|ssn|25|\n");
    for oid in (19_900..20_000).rev() {
        writeln!(text, "c|{oid}|public|w|1|a|25|\nd|{oid}|||||{}|", oid + 1).unwrap();
    }
    let catalog = read(text.trim_end()).unwrap();
    assert!((19_900..20_000).all(|oid| classes(&catalog, oid)[0].contains("us_ssn")));
    assert_eq!(classes(&catalog, 20_000), ["us_ssn"]);
}

#[test]
fn malformed_rows_are_refused() {
    for bad in [
        "c|x|public|t|1|a|25|",
        "c|1|public|t|1|a|25",
        "c|1|public|t|99999|a|25|",
        "c|1|public|t|1||25|",
        "c|1||t|1|a|25|",
        "c|1|public|t|1|a||",
        "d|1||||||",
        "i|1|||||-1|",
        "z|1|||||1|",
        "|1|||||1|",
        "",
    ] {
        let text = format!("c|9|public|t|1|a|25|\n{bad}\n");
        let error = read(&text).unwrap_err();
        assert_eq!(error.to_string(), "catalog row 1 is malformed", "{bad}");
    }
}

#[test]
fn the_query_filters_by_the_patterns_and_qualifies_everything() {
    let sql = catalog_query(&classification(), &[16390, 16404]);
    for want in [
        "(E'%'::pg_catalog.text, E'%'::pg_catalog.text, E'%\\\\_ssn'::pg_catalog.text)",
        "(E'public'::pg_catalog.text, E'customers'::pg_catalog.text, E'card'::pg_catalog.text)",
    ] {
        assert!(sql.contains(want), "{want}: {sql}");
    }
    assert!(sql.contains("ANY ('{16390,16404}'::pg_catalog.oid[])"), "{sql}");
    assert!(!sql.contains(" = ") && !sql.contains(';'));
    let hostile = "[[class]]\nname = \"a\"\ncolumns = ['''t.o'x\\''', \"t.ü*\"]";
    let sql = catalog_query(&Classification::parse(hostile).unwrap(), &[]);
    assert!(sql.contains("E'o''x\\\\\\\\'::pg_catalog.text"), "{sql}");
    assert!(sql.contains("E't'::pg_catalog.text, E'%'::pg_catalog.text)"), "{sql}");
}
