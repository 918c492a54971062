-- What loses a column's origin in a RowDescription, and what leaks beside rows, that stands nowhere else here.

--- lost_by_a_set_returning_function
-- as: caller
-- undo: reverse
-- expect: mask phone
SELECT customer_keys(77)

--- lost_by_a_set_returning_function_in_from
-- as: caller
-- undo: reverse
-- expect: mask phone
SELECT k.* FROM customer_keys(77) AS k

--- lost_by_intersect
-- expect: deny default-deny probe of us_ssn
SELECT ssn FROM customers WHERE id = 77 INTERSECT SELECT ssn FROM customers

--- lost_by_except
-- expect: deny default-deny probe of us_ssn
SELECT ssn FROM customers WHERE id = 77 EXCEPT SELECT city FROM customers

--- lost_by_unnest_of_a_query
-- expect: deny default-deny probe of us_ssn
SELECT unnest(ARRAY(SELECT ssn FROM customers WHERE id = 77))

--- lost_by_encode_of_a_cast
-- undo: hex
-- expect: deny default-deny probe of us_ssn
SELECT encode(ssn::bytea, 'hex') FROM customers WHERE id = 77

--- lost_by_a_window
-- expect: mask us_ssn
SELECT last_value(ssn) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM customers WHERE id = 77

--- lost_by_json_populate_record
-- expect: deny default-deny probe of us_ssn
SELECT (json_populate_record(NULL::customers, row_to_json(c))).ssn FROM customers AS c WHERE id = 77

--- lost_by_query_to_xml
-- undo: reverse
-- expect: deny no-opaque
SELECT query_to_xml('SELECT reverse(ssn) AS s FROM customers WHERE id = 77', false, false, '')::text

--- kept_by_distinct
-- expect: deny default-deny probe of us_ssn
SELECT DISTINCT ssn FROM customers WHERE id = 77

--- kept_by_group_by
-- expect: deny default-deny probe of us_ssn
SELECT ssn FROM customers WHERE id = 77 GROUP BY ssn

--- kept_by_a_limit
-- expect: mask us_ssn
SELECT ssn FROM customers WHERE id = 77 ORDER BY id LIMIT 1 OFFSET 0

--- kept_of_a_whole_row_undescribed
-- by: extended
-- expect: mask phone
SELECT c FROM customers AS c WHERE id = 77

--- kept_of_a_view_in_binary
-- by: binary
-- undo: reverse
-- expect: mask us_ssn
SELECT code FROM customer_codes WHERE id = 77

--- kept_of_a_view_undescribed
-- by: extended
-- expect: mask us_ssn
SELECT * FROM customer_directory WHERE id = 77

--- failing_row
-- note: the detail shows the whole row
-- as: locker
-- expect: withhold
UPDATE customers SET city = NULL WHERE id = 77

--- failing_row_undescribed
-- as: locker
-- by: extended
-- expect: withhold
UPDATE customers SET city = NULL WHERE id = 77

--- failing_row_of_a_prepared_statement
-- as: locker
-- expect: withhold
PREPARE p AS UPDATE customers SET city = $1 WHERE id = 77
;;
EXECUTE p(NULL)

--- explained_constant
-- as: caller
-- note: an EXPLAIN computes what is immutable, and shows it
-- undo: reverse
-- expect: mask phone
EXPLAIN (VERBOSE, COSTS OFF) SELECT fixed_key(77)

--- object_exported
-- role: postgres
-- undo: hex
-- secret: SELECT reverse(ssn) FROM customers WHERE id = 77
-- expect: deny no-unsafe-function
SELECT lo_export(4711, '/tmp/vestibule-mask-test-object')
;;
SELECT pg_read_binary_file('/tmp/vestibule-mask-test-object')

--- password_of_a_role
-- role: postgres
-- secret: SELECT rolpassword FROM pg_authid WHERE rolname = 'app'
-- expect: deny no-privilege
SELECT rolpassword FROM pg_authid WHERE rolname = 'app'

--- portal_of_a_cursor
-- note: what a FETCH in SQL brings of a cursor of the same name that was made anew
-- expect: mask us_ssn
-- undo: reverse
BEGIN
;;
DECLARE "C" CURSOR FOR SELECT city FROM customers WHERE id = 77
;;
CLOSE "C"; DECLARE "C" CURSOR FOR SELECT reverse(ssn) FROM customers WHERE id = 77; FETCH ALL FROM "C"
