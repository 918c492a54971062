//! What is known of PostgreSQL's own functions (PostgreSQL documentation, chapter 9) and of those of
//! its contributed modules. A function that is not listed is no risk by itself, but what it returns
//! is not known.

use std::sync::LazyLock;

use types::command::Risk;

/// What a function does to the values it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Returns {
    /// Something computed from its arguments and nothing else.
    Arguments,
    /// No value of any column: a count, a rank, the time.
    Nothing,
    /// Not known.
    Unknown,
}

/// What makes calling a function of this name dangerous, whatever its schema.
pub(super) fn risks(name: &str) -> Risk {
    if name.starts_with("dblink") {
        return Risk::UNSAFE_FUNCTION.union(Risk::OPAQUE);
    }
    if name.starts_with("pg_ls_") || name.starts_with("pg_read_") || name.starts_with("pg_file_") {
        return Risk::UNSAFE_FUNCTION;
    }
    if name.starts_with("pg_logical_") || name.starts_with("pg_replication_") {
        return Risk::UNSAFE_FUNCTION.union(Risk::SIDE_EFFECT);
    }
    if ["pg_advisory_", "pg_try_advisory_", "pg_stat_reset", "pg_wal_replay_"]
        .iter()
        .any(|head| name.starts_with(head))
    {
        return Risk::SIDE_EFFECT;
    }
    if UNSAFE.binary_search(&name).is_ok() {
        Risk::UNSAFE_FUNCTION
    } else if OPAQUE.binary_search(&name).is_ok() {
        Risk::OPAQUE
    } else if EFFECTS.binary_search(&name).is_ok() {
        Risk::SIDE_EFFECT
    } else if VALUES.binary_search(&name).is_ok() {
        Risk::STATISTICS
    } else {
        Risk::empty()
    }
}

/// Whether a function of this name compares what it is given, as operators do.
pub(super) fn compares(name: &str) -> bool {
    COMPARE.contains(&name) || COMPARE_ENDS.iter().any(|end| name.ends_with(end))
}

const COMPARE: &[&str] =
    &["position", "regexp_like", "regexp_match", "starts_with", "strpos", "textlike", "texticlike"];

/// `int4eq`, `texteq`, `numeric_eq`, ….
const COMPARE_ENDS: &[&str] = &["eq", "ne", "lt", "le", "gt", "ge", "like", "cmp"];

/// What a function of PostgreSQL's own returns; `Unknown` where it is not one of the listed.
pub(super) fn returns(path: &[&str]) -> Returns {
    match path {
        [name] | ["pg_catalog", name] => {
            if VALUELESS.binary_search(name).is_ok() {
                Returns::Nothing
            } else if PURE.binary_search(name).is_ok() || SERVERS.binary_search(name).is_ok() {
                Returns::Arguments
            } else {
                Returns::Unknown
            }
        }
        _ => Returns::Unknown,
    }
}

/// Whether a function takes a whole row, so that `t.f` may mean `f(t)`.
pub(super) fn takes_row(name: &str) -> bool {
    matches!(
        name,
        "any_value"
            | "array_agg"
            | "concat"
            | "concat_ws"
            | "format"
            | "hstore"
            | "json_agg"
            | "json_agg_strict"
            | "json_build_array"
            | "json_object_agg"
            | "jsonb_agg"
            | "jsonb_agg_strict"
            | "jsonb_build_array"
            | "max"
            | "min"
            | "quote_literal"
            | "quote_nullable"
            | "record_out"
            | "record_send"
            | "row_to_json"
            | "to_json"
            | "to_jsonb"
    )
}

/// Functions that read or write files, run programs, or reach other hosts.
const UNSAFE: &[&str] = &[
    "binary_upgrade_create_empty_extension",
    "get_raw_page",
    "heap_page_items",
    "lo_export",
    "lo_import",
    "pg_backup_start",
    "pg_backup_stop",
    "pg_create_logical_replication_slot",
    "pg_create_physical_replication_slot",
    "pg_current_logfile",
    "pg_drop_replication_slot",
    "pg_execute_server_program",
    "pg_get_wal_records_info",
    "pg_hba_file_rules",
    "pg_relation_filepath",
    "pg_sequence_read",
    "pg_show_all_file_settings",
    "pg_start_backup",
    "pg_stat_file",
    "pg_stop_backup",
    "postgres_fdw_disconnect",
    "postgres_fdw_get_connections",
];

/// Functions that bring values of columns, or texts of statements, by another way than a table's name.
const VALUES: &[&str] = &[
    "lo_get",
    "loread",
    "pg_cursor",
    "pg_mcv_list_items",
    "pg_prepared_statement",
    "pg_stat_get_activity",
    "pg_stat_get_backend_activity",
];

/// The server's other functions (`pg_proc` of 15, and what 16 to 18 added), which tell of its
/// catalogs and itself or compute from their arguments.
static SERVERS: LazyLock<Vec<&str>> =
    LazyLock::new(|| include_str!("functions.txt").split_ascii_whitespace().collect());

/// Functions that run SQL they are given as text, or read relations named by a value.
const OPAQUE: &[&str] = &[
    "connectby",
    "crosstab",
    "crosstab2",
    "crosstab3",
    "crosstab4",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "database_to_xmlschema",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "schema_to_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "table_to_xmlschema",
    "ts_rewrite",
    "ts_stat",
    "xpath_table",
];

/// Functions that change something, or hold a connection up.
const EFFECTS: &[&str] = &[
    "brin_summarize_new_values",
    "gin_clean_pending_list",
    "lo_creat",
    "lo_create",
    "lo_from_bytea",
    "lo_manage",
    "lo_open",
    "lo_put",
    "lo_truncate",
    "lo_truncate64",
    "lo_unlink",
    "lowrite",
    "nextval",
    "pg_cancel_backend",
    "pg_clear_attribute_stats",
    "pg_clear_relation_stats",
    "pg_create_restore_point",
    "pg_current_xact_id",
    "pg_export_snapshot",
    "pg_extension_config_dump",
    "pg_import_system_collations",
    "pg_log_backend_memory_contexts",
    "pg_logfile_rotate",
    "pg_nextoid",
    "pg_notify",
    "pg_prewarm",
    "pg_promote",
    "pg_reload_conf",
    "pg_restore_attribute_stats",
    "pg_restore_relation_stats",
    "pg_rotate_logfile",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_switch_wal",
    "pg_switch_xlog",
    "pg_terminate_backend",
    "set_config",
    "setseed",
    "setval",
    "txid_current",
];

/// Functions whose result holds no column's value.
const VALUELESS: &[&str] = &[
    "clock_timestamp",
    "count",
    "cume_dist",
    "current_database",
    "current_schema",
    "dense_rank",
    "gen_random_uuid",
    "now",
    "ntile",
    "percent_rank",
    "pg_backend_pid",
    "pg_is_in_recovery",
    "random",
    "rank",
    "row_number",
    "statement_timestamp",
    "timeofday",
    "transaction_timestamp",
    "txid_current",
    "uuidv4",
    "uuidv7",
    "version",
];

/// Functions whose result depends on their arguments alone.
const PURE: &[&str] = &[
    "abs",
    "age",
    "any_value",
    "array_agg",
    "array_append",
    "array_cat",
    "array_dims",
    "array_fill",
    "array_length",
    "array_lower",
    "array_position",
    "array_positions",
    "array_prepend",
    "array_remove",
    "array_replace",
    "array_to_json",
    "array_to_string",
    "array_upper",
    "ascii",
    "avg",
    "bit_and",
    "bit_length",
    "bit_or",
    "bool_and",
    "bool_or",
    "btrim",
    "cardinality",
    "cbrt",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "chr",
    "concat",
    "concat_ws",
    "convert",
    "convert_from",
    "convert_to",
    "date_bin",
    "date_part",
    "date_trunc",
    "decode",
    "div",
    "encode",
    "every",
    "exp",
    "extract",
    "first_value",
    "floor",
    "format",
    "format_type",
    "gcd",
    "generate_series",
    "generate_subscripts",
    "get_bit",
    "get_byte",
    "host",
    "initcap",
    "isfinite",
    "json_agg",
    "json_array_elements",
    "json_array_elements_text",
    "json_array_length",
    "json_build_array",
    "json_build_object",
    "json_each",
    "json_each_text",
    "json_extract_path",
    "json_extract_path_text",
    "json_object",
    "json_object_agg",
    "json_object_keys",
    "json_populate_record",
    "json_populate_recordset",
    "json_strip_nulls",
    "json_to_record",
    "json_to_recordset",
    "json_typeof",
    "jsonb_agg",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_array_length",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_each",
    "jsonb_each_text",
    "jsonb_extract_path",
    "jsonb_extract_path_text",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_object_agg",
    "jsonb_object_keys",
    "jsonb_path_query",
    "jsonb_path_query_array",
    "jsonb_path_query_first",
    "jsonb_populate_record",
    "jsonb_populate_recordset",
    "jsonb_pretty",
    "jsonb_set",
    "jsonb_strip_nulls",
    "jsonb_to_record",
    "jsonb_to_recordset",
    "jsonb_typeof",
    "justify_days",
    "justify_hours",
    "justify_interval",
    "lag",
    "last_value",
    "lcm",
    "lead",
    "left",
    "length",
    "like_escape",
    "ln",
    "log",
    "log10",
    "lower",
    "lower_inc",
    "lpad",
    "ltrim",
    "make_date",
    "make_interval",
    "make_time",
    "make_timestamp",
    "make_timestamptz",
    "max",
    "md5",
    "min",
    "mod",
    "mode",
    "normalize",
    "nth_value",
    "num_nonnulls",
    "num_nulls",
    "octet_length",
    "overlay",
    "percentile_cont",
    "percentile_disc",
    "pi",
    "position",
    "pow",
    "power",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "regexp_match",
    "regexp_matches",
    "regexp_replace",
    "regexp_split_to_array",
    "regexp_split_to_table",
    "regexp_substr",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "row_to_json",
    "rpad",
    "rtrim",
    "set_bit",
    "set_byte",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sign",
    "similar_to_escape",
    "split_part",
    "sqrt",
    "starts_with",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "string_to_array",
    "string_to_table",
    "strpos",
    "substr",
    "substring",
    "sum",
    "text",
    "timezone",
    "to_char",
    "to_date",
    "to_hex",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
    "to_tsvector",
    "translate",
    "trim_array",
    "trunc",
    "unistr",
    "unnest",
    "upper",
    "upper_inc",
    "var_pop",
    "var_samp",
    "variance",
    "width_bucket",
    "xmlagg",
    "xmlcomment",
    "xmlconcat",
    "xpath",
    "xpath_exists",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        for table in [UNSAFE, OPAQUE, EFFECTS, VALUELESS, PURE, VALUES, SERVERS.as_slice()] {
            assert!(table.is_sorted(), "binary search needs order: {table:?}");
        }
    }
}
