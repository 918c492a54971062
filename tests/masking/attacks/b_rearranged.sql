-- The value, by another way through the statement.

--- subquery
-- expect: mask us_ssn
SELECT x FROM (SELECT ssn AS x, id FROM customers) AS q WHERE id = 77

--- subquery_of_subquery_reversed
-- expect: mask us_ssn
-- undo: reverse
SELECT y FROM (SELECT reverse(x) AS y FROM (SELECT ssn AS x FROM customers WHERE id = 77) AS a) AS b

--- star_of_subquery
-- expect: mask us_ssn
-- undo: reverse
SELECT * FROM (SELECT id, reverse(ssn) AS x, city FROM customers WHERE id = 77) AS q

--- scalar_subquery
-- expect: mask us_ssn
SELECT (SELECT ssn FROM customers WHERE id = 77)

--- scalar_subquery_in_an_expression
-- expect: mask us_ssn
SELECT 'it is ' || (SELECT ssn FROM customers WHERE id = 77)

--- with_query
-- expect: mask us_ssn
WITH w AS (SELECT * FROM customers WHERE id = 77) SELECT ssn FROM w

--- with_query_renamed
-- expect: mask us_ssn
-- undo: reverse
WITH w(a, b) AS (SELECT id, reverse(ssn) FROM customers) SELECT b FROM w WHERE a = 77

--- with_query_materialized
-- expect: mask us_ssn
WITH w AS MATERIALIZED (SELECT id, ssn AS s FROM customers) SELECT s FROM w WHERE id = 77

--- recursive
-- expect: mask us_ssn
-- undo: rows
WITH RECURSIVE r(n, c, rest) AS (
  SELECT 1, left(ssn, 1), substr(ssn, 2) FROM customers WHERE id = 77
  UNION ALL SELECT n + 1, left(rest, 1), substr(rest, 2) FROM r WHERE n < 11)
SELECT c FROM r

--- union_all
-- expect: mask us_ssn
SELECT 'none' UNION ALL SELECT ssn FROM customers WHERE id = 77

--- union_all_swapped
-- expect: mask us_ssn
SELECT id::text, ssn FROM customers WHERE id = 77 UNION ALL SELECT ssn, id::text FROM customers WHERE id = 77

--- values_list
-- expect: mask us_ssn
VALUES ((SELECT ssn FROM customers WHERE id = 77))

--- values_in_from
-- expect: mask us_ssn
-- undo: reverse
SELECT v FROM (VALUES (reverse((SELECT ssn FROM customers WHERE id = 77)))) AS t(v)

--- lateral
-- expect: mask us_ssn
SELECT x FROM customers AS c, LATERAL (SELECT c.ssn AS x) AS q WHERE c.id = 77

--- joined
-- expect: mask us_ssn
SELECT c.ssn FROM customers AS c JOIN accounts AS a ON a.customer_id = c.id WHERE c.id = 77 LIMIT 1

--- joined_using_star
-- expect: mask us_ssn
SELECT * FROM customers JOIN (SELECT 77 AS id) AS q USING (id)

--- joined_alias
-- expect: mask us_ssn
SELECT j.ssn FROM (customers AS c JOIN (SELECT 77 AS k) AS q ON c.id = q.k) AS j

--- left_joined
-- expect: mask us_ssn
SELECT reverse(c.ssn) FROM (SELECT 77 AS k) AS q LEFT JOIN customers AS c ON c.id = q.k
-- undo: reverse

--- two_stars
-- expect: mask us_ssn
SELECT a.*, c.* FROM accounts AS a JOIN customers AS c ON c.id = a.customer_id WHERE c.id = 77

--- view
-- expect: mask us_ssn
SELECT reference FROM customer_directory WHERE id = 77

--- view_reversed
-- expect: mask us_ssn
-- undo: reverse
SELECT code FROM customer_codes WHERE id = 77

--- view_of_a_head
-- note: a partial mask of it would show all but the first digit
-- expect: mask us_ssn
-- secret: SELECT left(ssn, 6) FROM customers WHERE id = 77
SELECT head FROM customer_codes WHERE id = 77

--- view_of_a_view
-- expect: mask us_ssn
-- undo: reverse
SELECT back FROM directory_codes WHERE id = 77

--- view_star
-- expect: mask us_ssn
-- undo: reverse
SELECT * FROM customer_codes WHERE id = 77

--- materialized_view
-- expect: mask us_ssn
SELECT everyone FROM city_sheet

--- child_table
-- expect: mask us_ssn
SELECT ssn FROM people_archive WHERE id = 100077

--- parent_table
-- expect: mask us_ssn
-- undo: reverse
SELECT reverse(ssn) FROM people WHERE id = 100077

--- generated_column
-- expect: mask us_ssn
-- undo: reverse
SELECT turned FROM people WHERE id = 77

--- generated_column_of_a_child
-- expect: mask us_ssn
-- undo: reverse
SELECT turned FROM people_archive WHERE id = 100077

--- generated_column_by_star
-- expect: mask us_ssn
-- undo: reverse
SELECT * FROM people WHERE id = 77

--- partitioned_table
-- expect: mask card_number
-- secret: SELECT card_number FROM cards WHERE id = 77
SELECT card_number FROM card_log WHERE id = 77

--- partition
-- expect: mask card_number
-- undo: reverse
-- secret: SELECT card_number FROM cards WHERE id = 77
SELECT reverse(card_number) FROM card_log_1 WHERE id = 77

--- domain
-- expect: mask us_ssn
SELECT ssn FROM filings WHERE id = 77

--- domain_reversed
-- expect: mask us_ssn
-- undo: reverse
SELECT reverse(ssn::text) FROM filings WHERE id = 77

--- search_path_elsewhere
-- expect: mask us_ssn
SET search_path = pg_catalog, public
;;
SELECT lower(ssn) FROM customers WHERE id = 77

--- in_a_transaction
-- expect: mask us_ssn
-- undo: reverse
BEGIN
;;
SELECT reverse(ssn) FROM customers WHERE id = 77
;;
COMMIT

--- one_of_several_statements
-- expect: mask us_ssn
-- undo: reverse
SELECT 1; SELECT reverse(ssn) FROM customers WHERE id = 77; SELECT 2

--- returning
-- as: clerk
-- expect: deny default-deny probe of us_ssn
-- undo: reverse
INSERT INTO case_notes (body) SELECT reverse(ssn) FROM customers WHERE id = 77 RETURNING body

--- undescribed
-- by: extended
-- expect: mask us_ssn
-- undo: reverse
SELECT reverse(ssn) FROM customers WHERE id = 77

--- undescribed_star
-- by: extended
-- expect: mask us_ssn
SELECT *, 1 FROM customers WHERE id = 77

--- undescribed_binary
-- by: binary
-- expect: mask us_ssn
SELECT ssn FROM customers WHERE id = 77

--- binary_bytes
-- by: binary
-- expect: mask us_ssn
SELECT convert_to(ssn, 'UTF8') FROM customers WHERE id = 77

--- binary_composite
-- by: binary
-- expect: mask phone
SELECT c FROM customers AS c WHERE id = 77

--- binary_array
-- by: binary
-- expect: mask us_ssn
SELECT array_agg(ssn) FROM customers WHERE id BETWEEN 76 AND 78

--- binary_jsonb
-- by: binary
-- expect: mask phone
SELECT to_jsonb(c) FROM customers AS c WHERE id = 77

--- cursor
-- expect: mask us_ssn
-- undo: reverse
BEGIN
;;
DECLARE c CURSOR FOR SELECT id, reverse(ssn) FROM customers WHERE id = 77
;;
FETCH ALL FROM c

--- cursor_in_one_string
-- expect: mask us_ssn
-- undo: reverse
BEGIN WORK; DECLARE c CURSOR FOR SELECT reverse(ssn) FROM customers WHERE id = 77; FETCH ALL FROM c; COMMIT

--- cursor_with_hold
-- expect: mask us_ssn
-- undo: reverse
DECLARE c CURSOR WITH HOLD FOR SELECT reverse(ssn) FROM customers WHERE id = 77
;;
FETCH ALL FROM c

--- cursor_of_a_star
-- expect: mask us_ssn
BEGIN
;;
DECLARE c BINARY CURSOR FOR SELECT * FROM customers WHERE id = 77
;;
FETCH 1 FROM c

--- cursor_made_anew
-- expect: mask us_ssn
-- undo: reverse
DECLARE c CURSOR WITH HOLD FOR SELECT city FROM customers WHERE id = 77
;;
FETCH 1 FROM c
;;
CLOSE c
;;
DECLARE c CURSOR WITH HOLD FOR SELECT reverse(ssn) FROM customers WHERE id = 77
;;
FETCH 1 FROM c

--- cursor_that_survives_its_namesake
-- note: the second DECLARE fails, and the first cursor is still the one of that name
-- expect: mask us_ssn
-- undo: reverse
BEGIN
;;
DECLARE c CURSOR FOR SELECT reverse(ssn) FROM customers WHERE id = 77
;;
SAVEPOINT s
;;
DECLARE c CURSOR FOR SELECT city FROM customers WHERE id = 77
;;
ROLLBACK TO s
;;
FETCH 1 FROM c

--- cursor_undescribed
-- by: extended
-- expect: mask us_ssn
-- undo: reverse
BEGIN
;;
DECLARE c CURSOR FOR SELECT reverse(ssn) FROM customers WHERE id = 77
;;
FETCH ALL FROM c

--- cursor_of_a_function
-- as: caller
-- note: nobody knows what it reads, so it has the widest mask
-- expect: mask phone
-- undo: reverse
BEGIN
;;
SELECT opened(77)
;;
FETCH ALL FROM held
