-- What is prepared by one text and executed by another.

--- prepared_by_sql
-- undo: reverse
-- expect: mask us_ssn
PREPARE p AS SELECT reverse(ssn) FROM customers WHERE id = $1
;;
EXECUTE p(77)

--- prepared_by_sql_as_it_is
-- expect: mask us_ssn
PREPARE p (int) AS SELECT id, ssn FROM customers WHERE id = $1
;;
EXECUTE p(77)

--- executed_by_the_protocol
-- by: extended
-- undo: reverse
-- expect: mask us_ssn
PREPARE p AS SELECT reverse(ssn) FROM customers WHERE id = $1
;;
EXECUTE p(77)

--- executed_in_binary
-- by: binary
-- undo: reverse
-- expect: mask us_ssn
PREPARE p AS SELECT reverse(ssn) FROM customers WHERE id = $1
;;
EXECUTE p(77)

--- prepared_star
-- expect: mask us_ssn
PREPARE p AS SELECT * FROM customers WHERE id = 77
;;
EXECUTE p

--- prepared_anew
-- undo: reverse
-- expect: mask us_ssn
PREPARE p AS SELECT city FROM customers WHERE id = 77
;;
DEALLOCATE p
;;
PREPARE p AS SELECT reverse(ssn) FROM customers WHERE id = 77
;;
EXECUTE p

--- prepared_anew_in_one_string
-- undo: reverse
-- expect: mask us_ssn
PREPARE p AS SELECT city FROM customers WHERE id = 77; DEALLOCATE p; PREPARE p AS SELECT reverse(ssn) FROM customers WHERE id = 77; EXECUTE p

--- prepared_in_a_transaction_that_is_rolled_back
-- note: A rollback takes no prepared statement back.
-- undo: reverse
-- expect: mask us_ssn
BEGIN
;;
PREPARE p AS SELECT reverse(ssn) FROM customers WHERE id = 77
;;
ROLLBACK
;;
EXECUTE p

--- prepared_twice
-- note: The second fails, and the first stands.
-- undo: reverse
-- expect: mask us_ssn
PREPARE p AS SELECT reverse(ssn) FROM customers WHERE id = 77
;;
PREPARE p AS SELECT city FROM customers WHERE id = 77
;;
EXECUTE p

--- prepared_returning
-- as: clerk
-- undo: reverse
-- expect: deny default-deny probe of us_ssn
PREPARE p AS INSERT INTO case_notes (body) SELECT reverse(ssn) FROM customers WHERE id = 77 RETURNING body
;;
EXECUTE p

--- prepared_union
-- undo: reverse
-- expect: mask us_ssn
PREPARE p AS SELECT reverse(s) FROM (SELECT city AS s FROM customers WHERE id = 3 UNION ALL SELECT ssn FROM customers WHERE id = 77) AS u
;;
EXECUTE p

--- prepared_error
-- expect: deny default-deny probe of us_ssn
PREPARE p AS SELECT ssn::int FROM customers WHERE id = $1
;;
EXECUTE p(77)

--- prepared_condition
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
PREPARE p{place}_{digit} AS SELECT id FROM customers WHERE id = 77 AND substr(ssn, {place}, 1) = '{digit}'; EXECUTE p{place}_{digit}

--- prepared_unseen
-- as: caller
-- note: A function of the database's own prepares something else under the name.
-- undo: reverse
-- expect: deny no-opaque
PREPARE p AS SELECT city FROM customers WHERE id = 77
;;
SELECT prepare_anew()
;;
EXECUTE p

--- prepared_elsewhere
-- as: caller
-- undo: reverse
-- expect: deny no-opaque
SELECT prepare_anew()
;;
EXECUTE p

--- table_of_an_execute
-- undo: reverse
-- expect: deny no-ddl
PREPARE p AS SELECT reverse(ssn) AS x FROM customers WHERE id = 77
;;
CREATE TEMP TABLE made AS EXECUTE p
;;
SELECT x FROM made
