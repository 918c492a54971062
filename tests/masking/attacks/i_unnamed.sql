-- Code that runs without being called by name, and values that show in whether a statement fails.

--- operator_of_ones_own
-- undo: reverse
-- expect: deny default-deny it calls <?>
SELECT 77 <?> 1

--- operator_by_its_schema
-- undo: reverse
-- expect: deny default-deny it calls own.^
SELECT 77 OPERATOR(own.^) 1

--- operator_in_a_view
-- undo: reverse
-- secret: SELECT reverse(owned_by) FROM account_keys WHERE id = 77
-- expect: mask phone
SELECT owned_by FROM account_keys WHERE id = 77

--- cast_of_ones_own
-- undo: reverse
-- expect: deny default-deny it calls customer_code
SELECT 77::customer_code

--- cast_of_ones_own_by_a_field
-- undo: reverse
-- expect: deny default-deny it calls customer_code
SELECT (CAST(id AS customer_code)).code FROM accounts WHERE id = 77

--- function_as_a_column
-- undo: reverse
-- secret: SELECT reverse(owner(a)) FROM accounts a WHERE id = 77
-- expect: mask phone
SELECT a.owner FROM accounts AS a WHERE a.id = 77

--- function_as_a_field
-- undo: reverse
-- secret: SELECT reverse(owner(a)) FROM accounts a WHERE id = 77
-- expect: mask phone
SELECT (a).owner FROM accounts AS a WHERE a.id = 77

--- function_as_a_column_copied
-- undo: reverse
-- secret: SELECT reverse(owner(a)) FROM accounts a WHERE id = 77
-- expect: mask phone
COPY (SELECT a.owner FROM accounts AS a WHERE a.id = 77) TO STDOUT

--- function_as_a_column_compared
-- by: oracle
-- undo: oracle
-- secret: SELECT substr(reverse(owner(a)), 1, 6) FROM accounts a WHERE id = 77
-- expect: deny default-deny probe of
SELECT 1 FROM accounts AS a WHERE a.id = 77 AND a.owner LIKE '%' || reverse('{known}{digit}')

--- rule_that_returns
-- note: what an INSERT returns is the rule's to say
-- as: clerk
-- undo: reverse
-- expect: mask phone
INSERT INTO desk VALUES (77, 'x') RETURNING body

--- rule_that_returns_a_row
-- as: clerk
-- undo: reverse
-- expect: mask phone
INSERT INTO desk VALUES (77, 'x') RETURNING *

--- trigger_that_returns
-- as: clerk
-- undo: reverse
-- expect: mask phone
INSERT INTO counter VALUES (77, 'x') RETURNING body

--- function_of_a_parent_as_a_column
-- undo: reverse
-- expect: mask phone
SELECT v.keeper FROM old_vaults AS v WHERE v.id = 77

--- function_of_a_servers_name
-- note: it has one for text alone, so with a number the bank's is meant
-- as: caller
-- undo: reverse
-- expect: mask phone
SELECT quote_ident(77)

--- function_of_a_servers_name_refused
-- undo: reverse
-- expect: deny default-deny it calls quote_ident
SELECT quote_ident(77)

--- function_of_a_servers_name_executed
-- undo: reverse
-- expect: deny default-deny it calls quote_ident
PREPARE p AS SELECT quote_ident(77)
;;
EXECUTE p

--- function_of_a_servers_name_in_a_cursor
-- as: caller
-- undo: reverse
-- expect: mask phone
BEGIN
;;
DECLARE c CURSOR FOR SELECT concat('x', quote_ident(id)) FROM accounts WHERE id = 77
;;
FETCH c

--- function_of_a_servers_name_by_binary
-- as: caller
-- by: binary
-- undo: reverse
-- expect: mask phone
SELECT upper(quote_ident(77))

--- function_of_a_servers_name_copied
-- as: caller
-- undo: reverse
-- expect: mask phone
COPY (SELECT 77, quote_ident(77)) TO STDOUT

--- view_of_a_function
-- undo: reverse
-- secret: SELECT reverse(owned_by) FROM account_owners WHERE id = 77
-- expect: mask phone
SELECT owned_by FROM account_owners WHERE id = 77

--- view_of_a_function_copied
-- undo: reverse
-- secret: SELECT reverse(owned_by) FROM account_owners WHERE id = 77
-- expect: mask phone
COPY (SELECT * FROM account_owners WHERE id = 77) TO STDOUT

--- view_of_a_view_of_a_function
-- undo: reverse
-- secret: SELECT reverse(owned_by) FROM account_owners WHERE id = 77
-- expect: mask phone
SELECT * FROM account_heads WHERE id = 77

--- rows_of_a_rule
-- as: clerk
-- undo: reverse
-- expect: mask phone
INSERT INTO inbox VALUES (77, 'x')

--- notice_of_a_trigger
-- as: clerk
-- undo: reverse
-- expect: nothing
INSERT INTO outbox VALUES (77, 'x')

--- error_by_a_lossy_encoding
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT convert_to(translate(substr(ssn, {place}, 1), '{digit}', 'ł'), 'LATIN1') FROM customers WHERE id = 77

--- error_by_size
-- note: over a gigabyte it fails
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT repeat(replace(substr(ssn, {place}, 1), '{digit}', lpad('', 1000, 'x')), 1100000) FROM customers WHERE id = 77

--- error_by_dimensions
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT ARRAY[string_to_array(substr(ssn, {place}, 1), '{digit}'), ARRAY['x']] FROM customers WHERE id = 77

--- error_by_dimensions_of_an_aggregate
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT array_agg(a) FROM (SELECT string_to_array(substr(ssn, {place}, 1), '{digit}') AS a FROM customers WHERE id = 77 UNION ALL SELECT ARRAY['x']) AS q

--- set_local_role
-- role: postgres
-- expect: deny no-privilege
BEGIN
;;
SET LOCAL ROLE app
;;
SELECT ssn FROM customers WHERE id = 77

--- set_session_authorization
-- role: postgres
-- expect: deny no-privilege
SET SESSION AUTHORIZATION app
;;
SELECT ssn FROM customers WHERE id = 77

--- set_config_of_the_role
-- role: postgres
-- expect: deny no-privilege
SELECT set_config('role', 'app', false)
;;
SELECT ssn FROM customers WHERE id = 77

--- set_config_of_a_computed_name
-- role: postgres
-- expect: deny no-privilege
SELECT set_config('ro' || 'le', 'app', false)
;;
SELECT ssn FROM customers WHERE id = 77

--- reset_role
-- role: postgres
-- expect: deny no-privilege
RESET ROLE
;;
SELECT ssn FROM customers WHERE id = 77

--- update_of_the_settings_view
-- role: postgres
-- expect: deny default-deny
UPDATE pg_settings SET setting = 'app' WHERE name = 'role'
;;
SELECT ssn FROM customers WHERE id = 77

--- alter_using
-- role: postgres
-- undo: reverse
-- expect: deny no-ddl
CREATE TABLE turned (id int, body text)
;;
INSERT INTO turned VALUES (77, 'x')
;;
ALTER TABLE turned ALTER COLUMN body TYPE text USING customer_key(id)
;;
SELECT body FROM turned

--- new_operator
-- undo: reverse
-- expect: deny no-ddl
CREATE OPERATOR <??> (LEFTARG = int, RIGHTARG = int, FUNCTION = key_of)
;;
SELECT 77 <??> 1

--- new_cast
-- undo: reverse
-- expect: deny no-ddl
CREATE TYPE other_code AS (code text)
;;
CREATE FUNCTION other_code(int) RETURNS other_code LANGUAGE sql AS $$ SELECT ROW(reverse(ssn))::other_code FROM customers WHERE id = $1 $$
;;
CREATE CAST (int AS other_code) WITH FUNCTION other_code(int)
;;
SELECT 77::other_code

--- new_shadow_of_a_function
-- note: the better match comes first, wherever it stands
-- undo: reverse
-- expect: deny no-ddl
CREATE FUNCTION upper(varchar) RETURNS text LANGUAGE sql AS $$ SELECT reverse(ssn) FROM customers WHERE id = 77 $$
;;
SELECT upper(kind::varchar) FROM accounts WHERE id = 77

--- new_policy
-- role: postgres
-- undo: reverse
-- expect: deny no-ddl
CREATE TABLE held (id int)
;;
INSERT INTO held VALUES (77)
;;
GRANT SELECT ON held TO app; ALTER TABLE held ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON held USING (mutter(id)::text IS NOT NULL)
;;
SET ROLE app
;;
SELECT * FROM held

--- new_index_expression
-- undo: reverse
-- expect: deny no-ddl
CREATE FUNCTION told(int) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT reverse(ssn) FROM customers WHERE id = $1 $$
;;
CREATE TABLE indexed (id int)
;;
INSERT INTO indexed VALUES (77), (77)
;;
CREATE UNIQUE INDEX ON indexed (told(id))

--- new_event_trigger
-- role: postgres
-- undo: reverse
-- expect: deny no-ddl
CREATE FUNCTION told_by_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', (SELECT reverse(ssn) FROM customers WHERE id = 77); END $$
;;
CREATE EVENT TRIGGER told ON ddl_command_end EXECUTE FUNCTION told_by_ddl()
;;
COMMENT ON TABLE filings IS 'x'; DROP EVENT TRIGGER told

--- new_security_definer
-- role: postgres
-- undo: reverse
-- expect: deny no-ddl
CREATE FUNCTION as_owner() RETURNS text SECURITY DEFINER LANGUAGE sql AS $$ SELECT reverse(ssn) FROM customers WHERE id = 77 $$
;;
SELECT as_owner()

--- pg_cursors
-- undo: digits
-- expect: deny no-statistics
BEGIN
;;
SELECT 'x' FROM (SELECT 1) AS q
;;
DECLARE c CURSOR FOR SELECT ssn FROM customers WHERE id = 77
;;
SELECT statement FROM pg_cursors, LATERAL (SELECT ssn FROM customers WHERE id = 77) AS s
;;
FETCH ALL FROM c

--- pg_prepared_statements
-- expect: deny no-statistics
SELECT statement || s.ssn FROM pg_prepared_statements RIGHT JOIN (SELECT ssn FROM customers WHERE id = 77) AS s ON true
;;
SELECT ssn FROM customers WHERE id = 77

--- database_to_xml
-- expect: deny no-opaque
SELECT database_to_xml(true, true, '')

--- statistics_of_expressions
-- role: postgres
-- undo: reverse
-- secret: SELECT unnest(histogram_bounds::text::text[]) FROM pg_stats WHERE tablename = 'customers' AND attname = 'ssn'
-- expect: deny no-statistics
SELECT reverse(v) FROM (SELECT unnest(histogram_bounds::text::text[]) AS v FROM pg_catalog.pg_stats WHERE tablename = 'customers' AND attname = 'ssn') AS q
