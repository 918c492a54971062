//! What is said to a server to make, find and drop roles. Every text is a literal of its own.

use std::sync::Arc;

use types::secret::Secret;

use super::EphemeralRule;

/// What the server gives each statement, and it for locks; names mean what they mean everywhere.
const SETTINGS: &str = "BEGIN; SET LOCAL statement_timeout = '10s'; \
     SET LOCAL lock_timeout = '5s'; SET LOCAL search_path = pg_catalog; SET LOCAL datestyle = ISO; ";

/// Which node made a role, and in which database it was used.
pub(super) fn comment(node: &str, database: &str) -> String {
    format!("vestibule of {node}, for {database}")
}

/// Makes a role with a password's verifier: the end of its time is the server's to know.
pub(super) fn create(
    (role, verifier): (&str, &Secret<String>),
    rule: &EphemeralRule,
    comment: &str,
) -> Secret<String> {
    let EphemeralRule { grants, valid, prefix: _ } = rule;
    let body = Secret::new(format!(
        "BEGIN EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT \
         CONNECTION LIMIT 1 PASSWORD %L VALID UNTIL %L', {}, {}, now() + interval '{} s'); END",
        literal(role),
        literal(verifier.expose()),
        valid.as_secs(),
    ));
    let role = identifier(role);
    let grant = |granted: &Arc<str>| ["GRANT ", &identifier(granted), " TO ", &role, "; "].concat();
    let granting: String = grants.iter().map(grant).collect();
    Secret::new(format!(
        "{SETTINGS}DO {}; {granting}COMMENT ON ROLE {role} IS {}; COMMIT",
        literal(body.expose()),
        literal(comment),
    ))
}

/// Drops a role, if it is there: who is logged in with it is logged out, what it owns in this database
/// goes to the role that drops it, what it was granted is taken back.
pub(super) fn drop(role: &str) -> String {
    let name = literal(role);
    // Since PostgreSQL 16, who makes a role is no member of it; one may make oneself one.
    let execute = |statement: &str| format!("EXECUTE format('{statement}', {name}); ");
    let steps = [
        execute("GRANT %I TO CURRENT_USER"),
        format!("PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {name}; "),
        execute("REASSIGN OWNED BY %I TO CURRENT_USER"),
        execute("DROP OWNED BY %I"),
        execute("DROP ROLE %I"),
    ]
    .concat();
    let body = format!(
        "BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) THEN {steps}END IF; END"
    );
    format!("{SETTINGS}DO {}; COMMIT", literal(&body))
}

/// Finds roles of this prefix and comment that nobody is logged in with.
pub(super) fn left(prefix: &Arc<str>, comment: &str) -> String {
    format!(
        "{SETTINGS}SELECT rolname FROM pg_roles r JOIN pg_shdescription d \
         ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass \
         WHERE starts_with(rolname::text, {}) AND d.description = {} \
         AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = r.oid) \
         ORDER BY rolname LIMIT 256; COMMIT",
        literal(prefix),
        literal(comment),
    )
}

/// A literal that means the same whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_literal() {
        assert_eq!(literal(r"a'b\c"), r"E'a''b\\c'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        let dropped = drop("x'; DROP TABLE y; --");
        assert!(!dropped.contains("'x'; DROP"), "{dropped}");
    }
}
