-- What is said by which rows come, how many, in what order, or by an error: digit after digit, nothing of it shown.

--- where_equal
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customers WHERE id = 77 AND substr(ssn, {place}, 1) = '{digit}'

--- where_like
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FROM customers WHERE id = 77 AND ssn LIKE '{known}{digit}%'

--- where_between
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FROM customers WHERE id = 77 AND ssn BETWEEN '{known}{digit}' AND '{known}{digit}~'

--- where_greater
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FROM customers WHERE id = 77 AND ssn >= '{known}{digit}'

--- where_regex
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT full_name FROM customers WHERE id = 77 AND ssn ~ '^{known}{digit}'

--- where_similar
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT full_name FROM customers WHERE id = 77 AND ssn SIMILAR TO '{known}{digit}%'

--- where_starts_with
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT full_name FROM customers WHERE id = 77 AND starts_with(ssn, '{known}{digit}')

--- where_position
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT full_name FROM customers WHERE id = 77 AND position('{known}{digit}' IN ssn) = 1

--- where_in
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customers WHERE id = 77 AND substr(ssn, {place}, 1) IN ('{digit}', 'x')

--- where_any
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customers WHERE id = 77 AND substr(ssn, {place}, 1) = ANY ('{"{digit}"}')

--- where_in_subquery
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customers WHERE id = 77 AND '{digit}' IN (SELECT substr(ssn, {place}, 1) FROM customers WHERE id = 77)

--- where_exists
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT 1 WHERE EXISTS (SELECT FROM customers WHERE id = 77 AND ssn LIKE '{known}{digit}%')

--- where_row
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customers WHERE id = 77 AND (id, substr(ssn, {place}, 1)) = (77, '{digit}')

--- where_row_of_the_whole
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customers AS c WHERE id = 77 AND c::text LIKE '(77,"%",{known}{digit}%'

--- where_cast
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customers WHERE id = 77 AND substr(ssn, {place}, 1)::int = {digit}

--- where_ascii
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customers WHERE id = 77 AND ascii(substr(ssn, {place}, 1)) = 48 + {digit}

--- where_json
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customers AS c WHERE id = 77 AND to_jsonb(c) ->> 'ssn' LIKE '{known}{digit}%'

--- where_md5
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customers WHERE id = 77 AND md5(substr(ssn, {place}, 1)) = md5('{digit}')

--- where_not_null
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customers WHERE id = 77 AND nullif(substr(ssn, {place}, 1), '{digit}') IS NULL

--- where_of_a_view
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customer_directory WHERE id = 77 AND reference LIKE '{known}{digit}%'

--- where_of_a_view_reversed
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM customer_codes WHERE id = 77 AND code LIKE '%' || reverse('{known}{digit}')

--- where_of_a_generated_column
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM people WHERE id = 77 AND turned LIKE '%' || reverse('{known}{digit}')

--- where_of_a_subquery
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM (SELECT id, left(ssn, 6) AS x FROM customers) AS q WHERE id = 77 AND x LIKE '{known}{digit}%'

--- where_of_a_with_query
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
WITH w(a, b) AS (SELECT id, ssn FROM customers) SELECT a FROM w WHERE a = 77 AND b LIKE '{known}{digit}%'

--- where_by_alias
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT c.a FROM customers AS c(a, b, x) WHERE c.a = 77 AND c.x LIKE '{known}{digit}%'

--- where_of_a_domain
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT id FROM filings WHERE id = 77 AND ssn LIKE '{known}{digit}%'

--- count_filter
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FILTER (WHERE ssn LIKE '{known}{digit}%') FROM customers WHERE id = 77

--- count_nullif
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(nullif(substr(ssn, {place}, 1), '{digit}')) FROM customers WHERE id = 77

--- count_distinct
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(DISTINCT x) FROM (SELECT substr(ssn, {place}, 1) AS x FROM customers WHERE id = 77 UNION ALL SELECT '{digit}') AS q

--- sum_of_a_case
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT sum(CASE WHEN ssn LIKE '{known}{digit}%' THEN 1 ELSE 0 END) FROM customers WHERE id = 77

--- bool_or
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT bool_or(ssn LIKE '{known}{digit}%') FROM customers WHERE id = 77

--- case_in_the_output
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT CASE WHEN ssn LIKE '{known}{digit}%' THEN 'yes' ELSE 'no' END FROM customers WHERE id = 77

--- case_without_an_else
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT CASE WHEN ssn LIKE '{known}{digit}%' THEN city END FROM customers WHERE id = 77

--- case_of_the_value
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT CASE substr(ssn, {place}, 1) WHEN '{digit}' THEN 'yes' END FROM customers WHERE id = 77

--- comparison_in_the_output
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT substr(ssn, {place}, 1) = '{digit}' FROM customers WHERE id = 77

--- nullif_in_the_output
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT nullif(substr(ssn, {place}, 1), '{digit}') FROM customers WHERE id = 77

--- regexp_match_in_the_output
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT regexp_match(ssn, '^{known}{digit}') FROM customers WHERE id = 77

--- substring_pattern_in_the_output
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT substring(ssn FROM '^{known}{digit}') FROM customers WHERE id = 77

--- subscript_in_the_output
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT (string_to_array('x' || ssn, 'x{known}{digit}'))[2] FROM customers WHERE id = 77

--- array_position
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT array_position(string_to_array(substr(ssn, {place}, 1), NULL), '{digit}') FROM customers WHERE id = 77

--- having
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT 1 FROM customers WHERE id = 77 HAVING max(ssn) LIKE '{known}{digit}%'

--- group_by_with_a_guess
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FROM (SELECT substr(ssn, {place}, 1) AS x FROM customers WHERE id = 77 UNION ALL SELECT '{digit}') AS q GROUP BY x

--- group_by_position
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT left(x, 0), count(*) FROM (SELECT substr(ssn, {place}, 1) AS x FROM customers WHERE id = 77 UNION ALL SELECT '{digit}') AS q GROUP BY 1, x

--- distinct_with_a_guess
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FROM (SELECT DISTINCT x FROM (SELECT substr(ssn, {place}, 1) AS x FROM customers WHERE id = 77 UNION ALL SELECT '{digit}') AS q) AS d

--- union_with_a_guess
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FROM (SELECT substr(ssn, {place}, 1) FROM customers WHERE id = 77 UNION SELECT '{digit}') AS q

--- intersect_with_a_guess
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT substr(ssn, {place}, 1) FROM customers WHERE id = 77 INTERSECT SELECT '{digit}'

--- except_a_guess
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT substr(ssn, {place}, 1) FROM customers WHERE id = 77 EXCEPT ALL SELECT '{digit}'

--- order_by_with_a_guess
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT who FROM (SELECT 'real' AS who, ssn AS x FROM customers WHERE id = 77 UNION ALL SELECT 'guess', '{known}{digit}') AS q ORDER BY x

--- order_by_position
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT who FROM (SELECT x, who FROM (SELECT 'real' AS who, ssn AS x FROM customers WHERE id = 77 UNION ALL SELECT 'guess', '{known}{digit}') AS q ORDER BY 1) AS r

--- order_by_position_of_a_star
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT who FROM (SELECT * FROM (SELECT 'real' AS who, ssn AS x FROM customers WHERE id = 77 UNION ALL SELECT 'guess', '{known}{digit}') AS q ORDER BY 2) AS r

--- order_by_an_alias
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT who FROM (SELECT who, lower(x) AS y FROM (SELECT 'real' AS who, ssn AS x FROM customers WHERE id = 77 UNION ALL SELECT 'guess', '{known}{digit}') AS q ORDER BY y) AS r

--- order_within_an_aggregate
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT string_agg(who, ' ' ORDER BY x) FROM (SELECT 'real' AS who, ssn AS x FROM customers WHERE id = 77 UNION ALL SELECT 'guess', '{known}{digit}') AS q

--- order_within_a_window
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT who, row_number() OVER (ORDER BY x) FROM (SELECT 'real' AS who, ssn AS x FROM customers WHERE id = 77 UNION ALL SELECT 'guess', '{known}{digit}') AS q ORDER BY who

--- partition_of_a_window
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) OVER (PARTITION BY x) FROM (SELECT substr(ssn, {place}, 1) AS x FROM customers WHERE id = 77 UNION ALL SELECT '{digit}') AS q

--- join_on_a_guess
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT c.id FROM customers AS c JOIN (VALUES ('{digit}')) AS g(d) ON substr(c.ssn, {place}, 1) = g.d WHERE c.id = 77

--- join_using_a_guess
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FROM (SELECT substr(ssn, {place}, 1) AS d FROM customers WHERE id = 77) AS c JOIN (VALUES ('{digit}')) AS g(d) USING (d)

--- join_natural
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FROM (SELECT substr(ssn, {place}, 1) AS d FROM customers WHERE id = 77) AS c NATURAL JOIN (VALUES ('{digit}')) AS g(d)

--- join_lateral
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT g.d FROM customers AS c, LATERAL (SELECT 1 AS d WHERE c.ssn LIKE '{known}{digit}%') AS g WHERE c.id = 77

--- limit_by_the_value
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT n FROM generate_series(1, 3) AS n LIMIT (SELECT CASE WHEN ssn LIKE '{known}{digit}%' THEN 2 ELSE 1 END FROM customers WHERE id = 77)

--- offset_by_the_value
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT n FROM generate_series(1, 3) AS n OFFSET (SELECT length(replace(substr(ssn, {place}, 1), '{digit}', '')) FROM customers WHERE id = 77)

--- series_of_the_value
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FROM customers AS c, generate_series({digit}, ascii(substr(c.ssn, {place}, 1)) - 48) AS n WHERE c.id = 77 AND n = {digit}

--- rows_of_a_split
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FROM customers AS c, regexp_split_to_table(substr(c.ssn, {place}, 1), '{digit}') AS p WHERE c.id = 77

--- rows_of_a_split_in_the_output
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT 1, string_to_table(substr(ssn, {place}, 1), '{digit}') FROM customers WHERE id = 77

--- rows_of_unnest
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FROM customers AS c, unnest(string_to_array(substr(c.ssn, {place}, 1), '{digit}')) AS p WHERE c.id = 77

--- error_by_division
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT 1 / (CASE WHEN ssn LIKE '{known}{digit}%' THEN 0 ELSE 1 END) FROM customers WHERE id = 77

--- error_by_length
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT 1 / length(replace(substr(ssn, {place}, 1), '{digit}', '')) FROM customers WHERE id = 77

--- error_by_cast
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT replace(substr(ssn, {place}, 1), '{digit}', 'x')::int FROM customers WHERE id = 77

--- error_by_encoding
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT encode('\x00', replace(translate(substr(ssn, {place}, 1), '{digit}', 'x'), 'x', 'hex')) FROM customers WHERE id = 77

--- error_by_format
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT format('%*s', replace(substr(ssn, {place}, 1), '{digit}', 'x'), '') FROM customers WHERE id = 77

--- error_by_chr
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT length(chr(abs(ascii(substr(ssn, {place}, 1)) - 48 - {digit}))) FROM customers WHERE id = 77

--- error_by_subquery
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT (SELECT n FROM generate_series(1, CASE WHEN ssn LIKE '{known}{digit}%' THEN 2 ELSE 1 END) AS n) FROM customers WHERE id = 77

--- explain_analyze
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SET a.d = '{digit}'; EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) SELECT FROM customers WHERE id = 77 AND substr(ssn, {place}, 1) = current_setting('a.d')

--- cursor_of_a_condition
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
BEGIN WORK; DECLARE c CURSOR FOR SELECT 1 FROM customers WHERE id = 77 AND substr(ssn, {place}, 1) = '{digit}'; FETCH ALL FROM c; COMMIT

--- percentile
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY CASE WHEN ssn LIKE '{known}{digit}%' THEN 1 ELSE 2 END) FROM customers WHERE id = 77

--- grouping_sets
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT count(*) FROM (SELECT substr(ssn, {place}, 1) AS x FROM customers WHERE id = 77 UNION ALL SELECT '{digit}') AS q GROUP BY GROUPING SETS ((x))

--- hashed
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
SELECT hashtext(substr(ssn, {place}, 1)) = hashtext('{digit}') FROM customers WHERE id = 77

--- recursive_with_a_guess
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
WITH RECURSIVE r(x) AS (SELECT substr(ssn, {place}, 1) FROM customers WHERE id = 77 UNION SELECT '{digit}' FROM r) SELECT count(*) FROM r

--- where_of_a_card
-- by: oracle
-- undo: oracle
-- note: the first six digits of these cards are the bank's
-- secret: SELECT substr(card_number, 7, 5) FROM cards WHERE id = 77
-- expect: deny default-deny probe of card_number
SELECT 1 FROM cards WHERE id = 77 AND substr(card_number, 6 + {place} - CASE WHEN {place} > 4 THEN 1 ELSE 0 END, 1) = '{digit}'

--- where_of_a_partition
-- by: oracle
-- undo: oracle
-- secret: SELECT substr(card_number, 7, 5) FROM cards WHERE id = 77
-- expect: deny default-deny probe of card_number
SELECT 1 FROM card_log_1 WHERE id = 77 AND substr(card_number, 6 + {place} - CASE WHEN {place} > 4 THEN 1 ELSE 0 END, 1) = '{digit}'

--- update_by_the_value
-- as: clerk
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
UPDATE case_notes SET marker = 1 WHERE EXISTS (SELECT FROM customers WHERE id = 77 AND ssn LIKE '{known}{digit}%') RETURNING 1;
INSERT INTO case_notes (body) SELECT 'x' FROM customers WHERE id = 77 AND ssn LIKE '{known}{digit}%'

--- delete_by_the_value
-- as: clerk
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
INSERT INTO case_notes (body) VALUES ('x');
DELETE FROM case_notes AS n USING customers AS c WHERE c.id = 77 AND c.ssn LIKE '{known}{digit}%'

--- merge_by_the_value
-- as: clerk
-- by: oracle
-- undo: oracle
-- expect: deny default-deny probe of us_ssn
MERGE INTO case_notes AS n USING customers AS c ON c.id = 77 AND n.body = 'none'
  WHEN NOT MATCHED AND c.id = 77 AND c.ssn LIKE '{known}{digit}%' THEN INSERT (body) VALUES ('x')
