-- Carried elsewhere first, and read back from there.

--- insert_select
-- as: clerk
-- undo: reverse
-- expect: deny default-deny probe of us_ssn
INSERT INTO case_notes (body) SELECT reverse(ssn) FROM customers WHERE id = 77
;;
SELECT body FROM case_notes

--- insert_values
-- as: clerk
-- undo: reverse
-- expect: deny default-deny probe of us_ssn
INSERT INTO case_notes (body) VALUES (reverse((SELECT ssn FROM customers WHERE id = 77)))
;;
SELECT body FROM case_notes

--- update_from
-- as: clerk
-- undo: reverse
-- expect: deny default-deny probe of us_ssn
INSERT INTO case_notes (body) VALUES ('x')
;;
UPDATE case_notes SET body = reverse(c.ssn) FROM customers AS c WHERE c.id = 77
;;
SELECT body FROM case_notes

--- update_of_a_subquery
-- as: clerk
-- undo: reverse
-- expect: deny default-deny probe of us_ssn
INSERT INTO case_notes (body) VALUES ('x')
;;
UPDATE case_notes SET (marker, body) = (SELECT id, reverse(ssn) FROM customers WHERE id = 77) WHERE id > 0 RETURNING body

--- merge_into
-- as: clerk
-- undo: reverse
-- expect: deny default-deny probe of us_ssn
MERGE INTO case_notes AS n USING (SELECT * FROM customers WHERE id = 77) AS c ON n.id = -1
  WHEN NOT MATCHED THEN INSERT (body) VALUES (reverse(c.ssn))
;;
SELECT body FROM case_notes

--- with_insert
-- as: clerk
-- undo: reverse
-- expect: deny default-deny probe of us_ssn
WITH w AS (INSERT INTO case_notes (body) SELECT reverse(ssn) FROM customers WHERE id = 77 RETURNING body) SELECT body FROM w

--- insert_number
-- as: clerk
-- undo: digits
-- expect: deny default-deny probe of us_ssn
INSERT INTO case_notes (marker, body) SELECT replace(ssn, '-', '')::int, 'x' FROM customers WHERE id = 77
;;
SELECT marker FROM case_notes

--- create_table_as
-- undo: reverse
-- expect: deny no-ddl
CREATE TABLE mine AS SELECT reverse(ssn) AS x FROM customers WHERE id = 77
;;
SELECT x FROM mine

--- create_temporary_table_as
-- undo: reverse
-- expect: deny no-ddl
CREATE TEMP TABLE mine AS SELECT reverse(ssn) AS x FROM customers WHERE id = 77
;;
SELECT x FROM mine

--- select_into
-- undo: reverse
-- expect: deny no-ddl
SELECT reverse(ssn) AS x INTO TEMP own FROM customers WHERE id = 77
;;
SELECT x FROM own

--- create_view
-- undo: reverse
-- expect: deny no-ddl
CREATE VIEW my_view AS SELECT reverse(ssn) AS x FROM customers WHERE id = 77
;;
SELECT x FROM my_view

--- create_temporary_view
-- undo: reverse
-- expect: deny no-ddl
CREATE TEMP VIEW my_own_view AS SELECT reverse(ssn) AS x FROM customers WHERE id = 77
;;
SELECT x FROM my_own_view

--- create_materialized_view
-- undo: reverse
-- expect: deny no-ddl
CREATE MATERIALIZED VIEW my_sheet AS SELECT reverse(ssn) AS x FROM customers WHERE id = 77
;;
SELECT x FROM my_sheet

--- temporary_shadow
-- note: a table of the same name in pg_temp comes first
-- undo: reverse
-- expect: deny no-ddl
CREATE TEMP TABLE accounts AS SELECT id, reverse(ssn) AS kind FROM customers WHERE id = 77
;;
SELECT kind FROM accounts

--- renamed_column
-- role: postgres
-- expect: deny no-ddl
ALTER TABLE filings RENAME COLUMN ssn TO harmless
;;
SELECT harmless FROM filings WHERE id = 77
;;
ALTER TABLE filings RENAME COLUMN harmless TO ssn

--- new_generated_column
-- undo: reverse
-- expect: deny no-ddl
ALTER TABLE people_archive ADD COLUMN y text GENERATED ALWAYS AS (reverse(ssn)) STORED
;;
SELECT y FROM people_archive WHERE id = 100077

--- default_of_a_column
-- undo: reverse
-- expect: deny no-ddl
CREATE FUNCTION pick() RETURNS text LANGUAGE sql AS 'SELECT reverse(ssn) FROM customers WHERE id = 77'
;;
CREATE TABLE picked (id int, x text DEFAULT pick())
;;
INSERT INTO picked VALUES (1) RETURNING x

--- new_function
-- undo: reverse
-- expect: deny no-ddl
CREATE FUNCTION pick2() RETURNS text LANGUAGE sql AS 'SELECT reverse(ssn) FROM customers WHERE id = 77'
;;
SELECT pick2()

--- new_function_in_plpgsql
-- undo: reverse
-- expect: deny no-ddl
CREATE FUNCTION pick3(q text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE r text; BEGIN EXECUTE q INTO r; RETURN r; END $$
;;
SELECT pick3('SELECT reverse(ssn) FROM customers WHERE id = 77')

--- new_rule
-- undo: reverse
-- expect: deny no-ddl
CREATE RULE r AS ON INSERT TO case_notes DO INSTEAD SELECT reverse(ssn) AS x FROM customers WHERE id = 77
;;
INSERT INTO case_notes (body) VALUES ('x')
;;
DROP RULE r ON case_notes

--- new_trigger
-- role: postgres
-- undo: reverse
-- expect: deny no-ddl
CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.body := (SELECT reverse(ssn) FROM customers WHERE id = 77); RETURN NEW; END $$
;;
CREATE TRIGGER t BEFORE INSERT ON case_notes FOR EACH ROW EXECUTE FUNCTION t()
;;
INSERT INTO case_notes (body) VALUES ('x') RETURNING body
;;
DROP TRIGGER t ON case_notes

--- comment_on
-- undo: reverse
-- expect: deny no-opaque
DO $$ BEGIN EXECUTE format('COMMENT ON TABLE filings IS %L', (SELECT reverse(ssn) FROM customers WHERE id = 77)); END $$
;;
SELECT obj_description('filings'::regclass)

--- set_config
-- undo: reverse
-- expect: deny default-deny
SELECT set_config('a.b', (SELECT reverse(ssn) FROM customers WHERE id = 77), false)
;;
SHOW a.b

--- set_application_name
-- note: the server reports it in a ParameterStatus of its own
-- undo: reverse
-- expect: deny default-deny
SELECT count(set_config('application_name', reverse(ssn), false)) FROM customers WHERE id = 77

--- notify
-- linger: yes
-- undo: reverse
-- expect: deny default-deny
LISTEN gossip
;;
SELECT count(pg_notify('gossip', reverse(ssn))::text) FROM customers WHERE id = 77

--- notify_by_a_function
-- linger: yes
-- undo: reverse
-- expect: deny default-deny it calls told_all
LISTEN gossip
;;
SELECT told_all(77)

--- large_object
-- undo: hex
-- secret: SELECT reverse(ssn) FROM customers WHERE id = 77
-- expect: deny no-statistics
SELECT lo_get(4711)

--- large_object_table
-- role: postgres
-- undo: hex
-- secret: SELECT reverse(ssn) FROM customers WHERE id = 77
-- expect: deny no-statistics
SELECT data FROM pg_largeobject WHERE loid = 4711

--- large_object_made
-- undo: hex
-- secret: SELECT reverse(ssn) FROM customers WHERE id = 77
-- expect: deny default-deny
SELECT lo_from_bytea(4712, convert_to(reverse(ssn), 'UTF8')) FROM customers WHERE id = 77
;;
SELECT lo_get(4712)

--- advisory_lock
-- note: the key of a lock is seen by all
-- undo: digits
-- expect: deny default-deny
SELECT pg_advisory_lock(replace(ssn, '-', '')::int8) FROM customers WHERE id = 77
;;
SELECT objid FROM pg_locks WHERE locktype = 'advisory'

--- sequence
-- undo: digits
-- expect: deny default-deny
SELECT setval('case_notes_id_seq', replace(ssn, '-', '')::int8) FROM customers WHERE id = 77
;;
SELECT last_value FROM case_notes_id_seq

--- do_into_a_note
-- undo: reverse
-- expect: deny no-opaque
DO $$ BEGIN INSERT INTO case_notes (body) SELECT reverse(ssn) FROM customers WHERE id = 77; END $$
;;
SELECT body FROM case_notes
