//! The probe's SQL.
//!
//! One statement. Every name, type and operator is qualified, so no `search_path` can shadow one;
//! letters are folded in the collation `C`, so no locale can change which are alike. Only
//! `pg_get_viewdef` itself looks an operator up by the path, so the path is set for the transaction
//! before it is called: run the probe outside of a transaction block, and it is as before. It waits
//! for whoever holds an exclusive lock on what a listed view reads.

use std::collections::BTreeSet;

use crate::classification::Classification;

/// Returns the probe's SQL: the relations with a column that a class pattern names, all they
/// inherit from or to, the views that call code of the database's own, and the views that read any of
/// them, at any depth; and the functions that may be called like a column. Rows of other relations are
/// not asked for, so a large database costs what its classified part does. What an extension brought
/// is no code of the database's own, but for such as reads by a text.
///
/// All relations are listed besides, by OID, name and number of attributes; and by name all functions of the
/// database's own, and all relations with rules for writing or INSTEAD OF triggers (`tgtype` 64, `pg_trigger.h`).
/// `kept` are asked for as if a pattern named them.
///
/// The filter takes more than the patterns do where it must (non-ASCII names, too many patterns);
/// [`super::Catalog::from_rows`] applies the patterns themselves.
pub fn catalog_query(classification: &Classification, kept: &[u32]) -> String {
    let patterns = patterns(classification);
    let kept: Vec<String> = kept.iter().map(u32::to_string).collect();
    let query = QUERY.replace("{kept}", &kept.join(","));
    if patterns.is_empty() {
        return query.replace("{patterns}", &row(("", "", "")));
    }
    let rows: Vec<String> =
        patterns.iter().map(|(s, t, c)| row((s.as_str(), t.as_str(), c.as_str()))).collect();
    query.replace("{patterns}", &rows.join(", "))
}

/// Whether a text is [`catalog_query`] of some classification, and so reads nothing but the catalog.
pub fn is_catalog_query(text: &str) -> bool {
    let Some((head, rest)) = QUERY.split_once("{patterns}") else { return false };
    let Some((middle, tail)) = rest.split_once("{kept}") else { return false };
    let inner = text.trim_end_matches(';').strip_prefix(head).and_then(|t| t.strip_suffix(tail));
    inner.and_then(|inner| inner.split_once(middle)).is_some_and(|(patterns, kept)| {
        is_rows(patterns) && kept.chars().all(|c| c.is_ascii_digit() || c == ',')
    })
}

/// Whether a text is rows of literals as [`row`] writes them: outside of quotes nothing but their frame.
fn is_rows(text: &str) -> bool {
    // Parts at odd places are within quotes; two quotes in a row end one literal and begin the next.
    let mut outside = text.split('\'').step_by(2);
    let frame = |part: &str| {
        let part = part.replace("::pg_catalog.text", "");
        part.chars().all(|c| matches!(c, '(' | ')' | ',' | ' ' | 'E'))
    };
    text.matches('\'').count().is_multiple_of(2) && outside.all(frame) && !text.contains("\\'")
}

type Parts = (String, String, String);

fn patterns(classification: &Classification) -> BTreeSet<Parts> {
    let all = classification.classes.iter().flat_map(|class| &class.columns);
    let mut patterns: BTreeSet<Parts> = all
        .map(|pattern| {
            let (schema, table, column) = pattern.parts();
            (schema.map_or_else(|| "%".to_owned(), like), like(table), like(column))
        })
        .collect();
    if patterns.len() > PATTERNS_MAX {
        let any = || "%".to_owned();
        patterns = BTreeSet::from([(any(), any(), any())]);
    }
    patterns
}

/// A pattern of `LIKE`. What is not ASCII may be encoded otherwise in the session: anything.
fn like(glob: &str) -> String {
    if !glob.is_ascii() {
        return "%".to_owned();
    }
    let mut like = String::with_capacity(glob.len());
    for c in glob.chars() {
        match c {
            '*' => like.push('%'),
            '%' | '_' | '\\' => like.extend(['\\', c]),
            c => like.push(c.to_ascii_lowercase()),
        }
    }
    like
}

fn row((schema, table, column): (&str, &str, &str)) -> String {
    // The escape form means the same whatever `standard_conforming_strings` is.
    let text =
        |s: &str| format!("E'{}'::pg_catalog.text", s.replace('\\', "\\\\").replace('\'', "''"));
    format!("({}, {}, {})", text(schema), text(table), text(column))
}

/// Patterns in the query: each is tried on every column of the database; 1,000 × 100,000 columns ×
/// about 50 ns = 5 s, once in five minutes. Beyond it every relation is asked for.
const PATTERNS_MAX: usize = 1_000;

const QUERY: &str = "\
WITH RECURSIVE p(s, t, c) AS (VALUES {patterns}), \
e(oid, base, kind) AS (\
SELECT DISTINCT r.ev_class, d.refobjid, 'd'::pg_catalog.text \
FROM pg_catalog.pg_rewrite r \
JOIN pg_catalog.pg_depend d ON d.objid OPERATOR(pg_catalog.=) r.oid \
WHERE r.ev_type OPERATOR(pg_catalog.=) '1'::pg_catalog.\"char\" \
AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid \
AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
AND d.refobjid OPERATOR(pg_catalog.<>) r.ev_class \
UNION ALL SELECT i.inhrelid, i.inhparent, 'i'::pg_catalog.text FROM pg_catalog.pg_inherits i \
UNION ALL SELECT i.inhparent, i.inhrelid, 'i'::pg_catalog.text FROM pg_catalog.pg_inherits i), \
x(class, oid) AS (\
SELECT d.classid, d.objid FROM pg_catalog.pg_depend d \
JOIN pg_catalog.pg_extension x ON x.oid OPERATOR(pg_catalog.=) d.refobjid \
WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid \
AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog.\"char\" \
AND x.extname OPERATOR(pg_catalog.<>) ALL (ARRAY['dblink','tablefunc','xml2']::pg_catalog.name[])), \
f(oid) AS (\
SELECT DISTINCT r.ev_class FROM pg_catalog.pg_rewrite r \
JOIN pg_catalog.pg_depend d ON d.objid OPERATOR(pg_catalog.=) r.oid \
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.ev_class \
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
WHERE r.ev_type OPERATOR(pg_catalog.=) '1'::pg_catalog.\"char\" \
AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid \
AND d.refclassid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid, \
'pg_catalog.pg_operator'::pg_catalog.regclass::pg_catalog.oid]) \
AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog','information_schema']::pg_catalog.name[]) \
AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.=) d.refobjid \
AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid \
AND p.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid) \
AND NOT EXISTS (SELECT FROM x WHERE x.class OPERATOR(pg_catalog.=) d.refclassid \
AND x.oid OPERATOR(pg_catalog.=) d.refobjid)), \
k(oid) AS (\
(SELECT f.oid FROM f UNION ALL SELECT a.attrelid \
FROM pg_catalog.pg_attribute a \
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid \
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
WHERE a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped \
AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','v','m','p','f']::pg_catalog.\"char\"[]) \
AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog','information_schema']::pg_catalog.name[]) \
AND (c.oid OPERATOR(pg_catalog.=) ANY ('{{kept}}'::pg_catalog.oid[]) OR EXISTS (SELECT FROM p WHERE \
pg_catalog.lower(a.attname::pg_catalog.text COLLATE pg_catalog.\"C\") OPERATOR(pg_catalog.~~) p.c \
AND pg_catalog.lower(c.relname::pg_catalog.text COLLATE pg_catalog.\"C\") OPERATOR(pg_catalog.~~) p.t \
AND pg_catalog.lower(n.nspname::pg_catalog.text COLLATE pg_catalog.\"C\") OPERATOR(pg_catalog.~~) p.s))) \
UNION SELECT e.oid FROM k JOIN e ON e.base OPERATOR(pg_catalog.=) k.oid) \
SELECT 'c'::pg_catalog.text, c.oid::pg_catalog.text, n.nspname::pg_catalog.text, \
c.relname::pg_catalog.text, a.attnum::pg_catalog.text, a.attname::pg_catalog.text, \
CASE WHEN t.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog.\"char\" \
THEN t.typbasetype ELSE a.atttypid END::pg_catalog.text, \
CASE WHEN t.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog.\"char\" \
THEN t.typtypmod ELSE a.atttypmod END::pg_catalog.text \
FROM k JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.oid \
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid \
JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid \
WHERE a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped \
AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','v','m','p','f']::pg_catalog.\"char\"[]) \
UNION ALL \
SELECT e.kind, e.oid::pg_catalog.text, NULL, NULL, NULL, NULL, e.base::pg_catalog.text, NULL \
FROM k JOIN e ON e.oid OPERATOR(pg_catalog.=) k.oid \
UNION ALL \
SELECT 'g', a.attrelid::pg_catalog.text, NULL, NULL, a.attnum::pg_catalog.text, NULL, \
p.refobjsubid::pg_catalog.text, NULL \
FROM k JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) k.oid \
JOIN pg_catalog.pg_attrdef d ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid \
AND d.adnum OPERATOR(pg_catalog.=) a.attnum \
JOIN pg_catalog.pg_depend p ON (p.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid \
AND p.objid OPERATOR(pg_catalog.=) d.oid \
OR p.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
AND p.objid OPERATOR(pg_catalog.=) a.attrelid AND p.objsubid OPERATOR(pg_catalog.=) a.attnum::pg_catalog.int4) \
AND p.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
AND p.refobjid OPERATOR(pg_catalog.=) a.attrelid \
WHERE a.attgenerated OPERATOR(pg_catalog.<>) ''::pg_catalog.\"char\" \
AND p.refobjsubid OPERATOR(pg_catalog.>) 0 \
AND p.refobjsubid OPERATOR(pg_catalog.<>) a.attnum::pg_catalog.int4 \
UNION ALL \
SELECT 'f', f.oid::pg_catalog.text, NULL, NULL, NULL, NULL, NULL, NULL FROM f \
UNION ALL \
SELECT 'r', '0', NULL, c.relname::pg_catalog.text, NULL, p.proname::pg_catalog.text, NULL, NULL \
FROM pg_catalog.pg_proc p \
JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) p.proargtypes[0] \
LEFT JOIN LATERAL (WITH RECURSIVE h(oid) AS (SELECT t.typrelid UNION SELECT i.inhrelid \
FROM h JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) h.oid) \
SELECT c.oid, c.relname FROM h JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) h.oid) c ON true \
WHERE p.pronargs OPERATOR(pg_catalog.>) 0::pg_catalog.int2 \
AND p.pronargs OPERATOR(pg_catalog.-) p.pronargdefaults OPERATOR(pg_catalog.<=) 1::pg_catalog.int2 \
AND p.prokind OPERATOR(pg_catalog.=) 'f'::pg_catalog.\"char\" \
AND p.pronamespace OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid, \
'information_schema'::pg_catalog.regnamespace::pg_catalog.oid]) \
AND (c.oid IS NOT NULL OR t.typname OPERATOR(pg_catalog.=) \
ANY (ARRAY['record','anyelement','anynonarray','anycompatible','anycompatiblenonarray']::pg_catalog.name[])) \
AND NOT EXISTS (SELECT FROM x \
WHERE x.class OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid \
AND x.oid OPERATOR(pg_catalog.=) p.oid) \
UNION ALL \
SELECT DISTINCT 'w', '0', NULL, c.relname::pg_catalog.text, NULL, NULL, NULL, NULL \
FROM pg_catalog.pg_class c \
WHERE c.relnamespace OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid \
AND (EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid \
AND r.ev_type OPERATOR(pg_catalog.<>) '1'::pg_catalog.\"char\") \
OR EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid OPERATOR(pg_catalog.=) c.oid \
AND (g.tgtype OPERATOR(pg_catalog.&) 64::pg_catalog.int2) OPERATOR(pg_catalog.<>) 0::pg_catalog.int2)) \
UNION ALL \
SELECT DISTINCT 'n', '0', NULL, NULL, NULL, p.proname::pg_catalog.text, NULL, NULL \
FROM pg_catalog.pg_proc p \
WHERE p.pronamespace OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid, \
'information_schema'::pg_catalog.regnamespace::pg_catalog.oid]) \
AND NOT EXISTS (SELECT FROM x \
WHERE x.class OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid \
AND x.oid OPERATOR(pg_catalog.=) p.oid) \
UNION ALL \
SELECT 'v', c.oid::pg_catalog.text, NULL, NULL, NULL, NULL, NULL, \
CASE WHEN pg_catalog.octet_length(v.def) OPERATOR(pg_catalog.<=) 16384 THEN v.def END \
FROM k JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.oid \
CROSS JOIN LATERAL (SELECT pg_catalog.set_config('search_path', 'pg_catalog', true) OFFSET 0) q(path) \
CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_viewdef(\
CASE WHEN q.path IS NOT NULL THEN c.oid END) OFFSET 0) v(def) \
WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['v','m']::pg_catalog.\"char\"[]) \
UNION ALL \
SELECT 'l', c.oid::pg_catalog.text, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, \
c.relnatts::pg_catalog.text, NULL, NULL, NULL \
FROM pg_catalog.pg_class c \
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r','v','m','p','f','S']::pg_catalog.\"char\"[])";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_known_again_and_nothing_else_is() {
        let text = "[[class]]\nname = \"ssn\"\ncolumns = [\"customers.ssn\", \"o'hara.*_%\"]\n";
        for classification in [Classification::default(), Classification::parse(text).unwrap()] {
            for kept in [&[][..], &[7, 8]] {
                let query = catalog_query(&classification, kept);
                assert!(is_catalog_query(&query), "{query}");
                assert!(is_catalog_query(&(query.clone() + ";")));
                for (from, to) in [
                    ("VALUES (", "VALUES (ssn, "),
                    ("VALUES (", "TABLE customers UNION VALUES ("),
                    ("E'", "E'\\\\'"),
                    ("pg_attribute", "customers"),
                    ("oid[])", "oid[]) OR EXISTS (SELECT FROM customers)"),
                ] {
                    let other = query.replacen(from, to, 1);
                    assert!(other == query || !is_catalog_query(&other), "{other}");
                }
            }
        }
        assert!(!is_catalog_query("SELECT 1"));
    }
}
