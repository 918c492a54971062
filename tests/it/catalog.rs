//! The probe of a database's catalog, asked of a real server.

use std::sync::Arc;

use integration::Postgres;
use mask::classification::Classification;
use mask::{Catalog, Masks, catalog_query};
use proto::sql::{Analyzer, Reading};
use types::command::Statement;
use types::redact::{Column, DataClass, Format, MaskRule, Operator, TreatmentKind};
use types::secret::Secret;

const SETUP: &str = "
CREATE SCHEMA zoo; SET search_path = zoo, public;
CREATE DOMAIN word AS text;
CREATE TABLE people (id int, ssn text, card word, phone text);
CREATE VIEW swapped AS SELECT ssn AS id, id AS x FROM people;
CREATE VIEW above AS SELECT upper(id) AS y, x FROM swapped;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM people;
CREATE VIEW whole AS SELECT people FROM people;
CREATE TABLE parts (id int, ssn text, day date) PARTITION BY RANGE (day);
CREATE TABLE part_one PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE plain (id int, note text);
CREATE FUNCTION lower(text) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
CREATE FUNCTION never(oid, oid) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
CREATE OPERATOR = (leftarg = oid, rightarg = oid, function = never);
";

/// Whatever the session's path, and with every operator shadowed, the same columns are masked: base
/// columns, what views make of them, partitions; and nothing else.
#[test]
fn classes_follow_views_and_partitions_on_any_search_path() {
    let server = Postgres::start().unwrap();
    server.sql(SETUP).unwrap();
    let classification = Classification::parse(
        "[[class]]\nname = \"us_ssn\"\ncolumns = [\"people.ssn\", \"parts.ssn\"]\n\
         [[class]]\nname = \"card\"\ncolumns = [\"zoo.people.card\"]\n",
    )
    .unwrap();
    for settings in
        ["", "SET search_path = zoo, pg_catalog, public; SET standard_conforming_strings = off;"]
    {
        let catalog = probe(&server, &classification, settings);
        for (relation, want) in [
            ("people", "id- ssn+ card+ phone-"),
            ("swapped", "id+ x-"),
            ("above", "y+ x-"),
            ("counted", "n-"),
            ("whole", "people+"),
            ("parts", "id- ssn+ day-"),
            ("part_one", "id- ssn+ day-"),
            ("plain", "id- note-"),
        ] {
            assert_eq!(
                masked(&server, &classification, &catalog, relation),
                want,
                "{settings} {relation}"
            );
        }
    }
}

fn probe(server: &Postgres, classification: &Classification, settings: &str) -> Arc<Catalog> {
    let sql = format!(
        "{settings} SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a, b, c, d, e, f, g, h)) \
         FROM ({}) AS q(a, b, c, d, e, f, g, h)",
        catalog_query(classification, &[])
    );
    let answer = server.sql(&sql).unwrap();
    let json = answer.lines().find(|line| line.starts_with('[')).unwrap();
    let json = &answer[answer.find(json).unwrap()..];
    let rows: Vec<Vec<Option<String>>> = serde_json::from_str(json).unwrap();
    let mut catalog = Catalog::from_rows(classification, &rows, &Catalog::unknown()).unwrap();
    let analyzer = Analyzer::new();
    let reading = Reading { standard_conforming_strings: !settings.contains("off") };
    catalog.resolve_views(classification, |definition| {
        match &*analyzer.analyze(definition.as_bytes(), reading) {
            [only] => only.outputs.clone(),
            _ => None,
        }
    });
    Arc::new(catalog)
}

/// The columns of a relation, each with `+` if it is masked, as a result of unknown text shows them.
fn masked(
    server: &Postgres,
    classification: &Classification,
    catalog: &Arc<Catalog>,
    relation: &str,
) -> String {
    let sql = format!(
        "SELECT attrelid::oid || ' ' || attnum || ' ' || attname FROM pg_attribute \
         WHERE attrelid = 'zoo.{relation}'::regclass AND attnum > 0 ORDER BY attnum"
    );
    let rules = ["us_ssn", "card"]
        .map(|name| MaskRule { class: DataClass(name.into()), operator: Operator::Replace });
    let masks = Masks::compile(&rules, classification, &Secret::new([7; 32]));
    let reading = Reading { standard_conforming_strings: true };
    let statement: Arc<Statement> =
        Arc::clone(&Analyzer::new().analyze(b"SELECT * FROM nowhere", reading)[0]);
    let rows = server.sql(&sql).unwrap();
    let words: Vec<String> = rows
        .lines()
        .map(|line| {
            let parts: Vec<&str> = line.split(' ').collect();
            let column = Column {
                name: b"shown".to_vec(),
                table_oid: parts[0].parse().unwrap(),
                attnum: parts[1].parse().unwrap(),
                type_oid: 25,
                modifier: -1,
                format: Format::Text,
            };
            let mut treatments = Vec::new();
            masks.redactor(Arc::clone(catalog)).plan(&statement, &[column], &mut treatments);
            let sign = if matches!(treatments[0].kind, TreatmentKind::Mask(_)) { '+' } else { '-' };
            format!("{}{sign}", parts[2])
        })
        .collect();
    words.join(" ")
}
