-- Through the server's own functions and catalogs, and code that was there before.

--- function_in_sql
-- as: caller
-- note: nobody knows what it reads, so it has the widest mask
-- undo: reverse
-- expect: mask phone
SELECT customer_key(77)

--- function_in_from
-- as: caller
-- undo: reverse
-- expect: mask phone
SELECT b FROM customer_row(77)

--- function_by_star
-- as: caller
-- undo: reverse
-- expect: mask phone
SELECT * FROM customer_row(77)

--- function_in_a_query
-- as: caller
-- undo: reverse
-- expect: mask phone
SELECT id, customer_key(id) FROM accounts WHERE id = 77

--- function_inside_functions
-- as: caller
-- undo: reverse
-- expect: mask phone
SELECT lower('x' || customer_key(77))

--- function_with_dynamic_sql
-- as: caller
-- undo: reverse
-- expect: mask phone
SELECT anything('SELECT reverse(ssn) FROM customers WHERE id = 77')

--- function_in_binary
-- as: caller
-- by: binary
-- undo: reverse
-- expect: mask phone
SELECT customer_key(77)

--- function_in_copy
-- as: caller
-- undo: reverse
-- expect: mask phone
COPY (SELECT customer_key(77)) TO STDOUT

--- procedure
-- undo: reverse
-- expect: deny default-deny call
CALL shout(77)

--- aggregate_of_ones_own
-- expect: deny default-deny it calls glue
SELECT glue(ssn) FROM customers WHERE id = 77

--- query_to_xml
-- undo: reverse
-- expect: deny no-opaque
SELECT query_to_xml('SELECT reverse(ssn) FROM customers WHERE id = 77', true, true, '')

--- table_to_xml
-- expect: deny no-opaque
SELECT table_to_xml('customers', true, true, '')

--- schema_to_xml
-- expect: deny no-opaque
SELECT schema_to_xml('public', true, true, '')

--- cursor_to_xml
-- expect: deny no-opaque
BEGIN
;;
DECLARE c CURSOR FOR SELECT ssn FROM customers WHERE id = 77
;;
SELECT cursor_to_xml('c', 5, true, true, '')

--- xmlelement
-- undo: reverse
-- expect: deny default-deny probe of us_ssn
SELECT xmlelement(NAME a, reverse(ssn)) FROM customers WHERE id = 77

--- xmlagg
-- expect: deny default-deny probe of us_ssn
SELECT xmlagg(xmlforest(ssn)) FROM customers WHERE id = 77

--- xmltable
-- expect: deny default-deny probe of us_ssn
SELECT x FROM customers, xmltable('/a' PASSING xmlelement(NAME a, ssn) COLUMNS x text PATH '.') WHERE id = 77

--- hstore
-- expect: deny default-deny it calls hstore
SELECT hstore(c) FROM customers AS c WHERE id = 77

--- json_path
-- expect: deny default-deny probe of us_ssn
SELECT jsonb_path_query(to_jsonb(c), '$.ssn') FROM customers AS c WHERE id = 77

--- json_each
-- expect: deny default-deny probe of us_ssn
SELECT value FROM customers AS c, json_each_text(row_to_json(c)) WHERE id = 77

--- json_populate
-- expect: deny default-deny probe of us_ssn
SELECT p.ssn FROM json_populate_recordset(NULL::customers, (SELECT json_agg(c) FROM customers AS c WHERE id = 77)) AS p

--- json_arrow
-- expect: deny default-deny probe of us_ssn
SELECT to_jsonb(c) ->> 'ssn' FROM customers AS c WHERE id = 77

--- regexp_replace
-- undo: digits
-- expect: deny default-deny probe of us_ssn
SELECT regexp_replace(ssn, '-', '', 'g') FROM customers WHERE id = 77

--- regexp_matches
-- undo: digits
-- expect: deny default-deny probe of us_ssn
SELECT regexp_matches(ssn, '(\d+)-(\d+)-(\d+)') FROM customers WHERE id = 77

--- regexp_split
-- undo: rows
-- expect: deny default-deny probe of us_ssn
SELECT regexp_split_to_table(ssn, '') FROM customers WHERE id = 77

--- unnested
-- undo: rows
-- expect: deny default-deny probe of us_ssn
SELECT unnest(string_to_array(ssn, NULL)) FROM customers WHERE id = 77

--- chr_of_ascii
-- undo: digits
-- expect: deny default-deny probe of us_ssn
SELECT string_agg(chr(ascii(substr(c.ssn, n, 1))), '') FROM customers c, generate_series(1, 11) AS n WHERE c.id = 77

--- arithmetic
-- secret: SELECT replace(ssn, '-', '')::int8 * 7 + 3 FROM customers WHERE id = 77
-- expect: deny default-deny probe of us_ssn
SELECT replace(ssn, '-', '')::int8 * 7 + 3 FROM customers WHERE id = 77

--- to_number
-- undo: digits
-- expect: deny default-deny probe of us_ssn
SELECT to_number(ssn, '999-99-9999') FROM customers WHERE id = 77

--- as_bits
-- secret: SELECT replace(ssn, '-', '')::int::bit(32) FROM customers WHERE id = 77
-- expect: deny default-deny probe of us_ssn
SELECT replace(ssn, '-', '')::int::bit(32) FROM customers WHERE id = 77

--- cast_to_bytea
-- undo: hex
-- expect: deny default-deny probe of us_ssn
SELECT ssn::bytea FROM customers WHERE id = 77

--- tsvector
-- undo: digits
-- expect: deny default-deny probe of us_ssn
SELECT to_tsvector('simple', replace(ssn, '-', 'x')) FROM customers WHERE id = 77

--- sum_of_one
-- undo: digits
-- expect: deny default-deny probe of us_ssn
SELECT sum(replace(ssn, '-', '')::int8) FROM customers WHERE id = 77

--- column_as_a_function
-- expect: deny default-deny it calls ssn
SELECT ssn(customers) FROM customers WHERE id = 77

--- pg_stats
-- secret: SELECT unnest(histogram_bounds::text::text[]) FROM pg_stats WHERE tablename = 'customers' AND attname = 'ssn'
-- expect: deny no-statistics
SELECT histogram_bounds FROM pg_stats WHERE tablename = 'customers' AND attname = 'ssn'

--- pg_statistic
-- role: postgres
-- secret: SELECT unnest(histogram_bounds::text::text[]) FROM pg_stats WHERE tablename = 'customers' AND attname = 'ssn'
-- expect: deny no-statistics
SELECT stavalues1 FROM pg_statistic WHERE starelid = 'customers'::regclass AND staattnum = 3

--- pg_stat_activity
-- victim: SELECT 'held open', reverse('{ssn}')
-- expect: deny no-statistics
SELECT query FROM pg_stat_activity WHERE query LIKE '%held%'

--- pg_stat_activity_reversed
-- victim: SELECT 'held open', reverse('{ssn}')
-- undo: reverse
-- expect: deny no-statistics
SELECT reverse(query) FROM pg_stat_activity WHERE query LIKE '%held%'

--- pg_stat_get_activity
-- victim: SELECT 'held open', reverse('{ssn}')
-- undo: reverse
-- expect: deny no-statistics
SELECT reverse(query) FROM pg_stat_get_activity(NULL) WHERE query LIKE '%held%'

--- heap_page
-- role: postgres
-- undo: hex
-- secret: SELECT ssn FROM customers WHERE id = 1
-- expect: deny no-unsafe-function
SELECT t_data FROM heap_page_items(get_raw_page('customers', 0)) LIMIT 5

--- dblink
-- role: postgres
-- undo: reverse
-- expect: deny no-opaque
SELECT x FROM dblink(format('host=127.0.0.1 port=%s dbname=bank user=app password=synthetic-only', inet_server_port()),
  'SELECT reverse(ssn) FROM customers WHERE id = 77') AS t(x text)

--- crosstab
-- undo: reverse
-- expect: deny no-opaque
SELECT a FROM crosstab('SELECT 1, 1, reverse(ssn) FROM customers WHERE id = 77') AS t(k int, a text)

--- ts_stat
-- undo: digits
-- expect: deny no-opaque
SELECT word FROM ts_stat('SELECT to_tsvector(''simple'', replace(ssn, ''-'', ''x'')) FROM customers WHERE id = 77')

--- read_the_files
-- role: postgres
-- undo: hex
-- secret: SELECT ssn FROM customers WHERE id = 1
-- expect: deny no-unsafe-function
CHECKPOINT
;;
SELECT encode(pg_read_binary_file(pg_relation_filepath('customers'), 0, 8192), 'hex')

--- fastpath_by_execute
-- note: of several in one string, one is refused and none runs
-- undo: reverse
-- expect: deny no-opaque
SELECT 1; DO $$ BEGIN RAISE NOTICE '%', (SELECT reverse(ssn) FROM customers WHERE id = 77); END $$

--- set_role
-- role: postgres
-- expect: deny no-privilege
SET ROLE app
;;
SELECT ssn FROM customers WHERE id = 77
-- undo: plain

--- function_refused
-- undo: reverse
-- expect: deny default-deny it calls customer_key
SELECT customer_key(77)

--- function_by_its_schema_refused
-- undo: reverse
-- expect: deny default-deny it calls public.customer_key
SELECT public.customer_key(77)

--- large_object_by_call
-- by: call
-- undo: reverse
-- expect: deny no-statistics large objects
SELECT id FROM customers WHERE id = 77
;;
CALLING lo_get 00001267

--- large_object_read_by_calls
-- by: call
-- undo: reverse
-- expect: deny default-deny no policy permits call
BEGIN
;;
CALLING lo_open 00001267 00040000
;;
CALLING loread 00000000 00000064

--- own_function_by_call
-- by: call
-- as: caller
-- undo: reverse
-- expect: deny no-opaque
SELECT id FROM customers WHERE id = 77
;;
CALLING customer_key 0000004d

--- query_by_call
-- by: call
-- undo: reverse
-- expect: deny no-opaque
SELECT id FROM customers WHERE id = 77
;;
CALLING query_to_xml 53454c45435420726576657273652873736e292046524f4d20637573746f6d657273205748455245206964203d203737 01 00 78
