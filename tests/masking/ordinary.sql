-- What analysts ask: every cell must come through as it is, but those of the columns named as masked.
-- COPY has columns by number.

--- query_001
SELECT id, full_name, city FROM customers WHERE id = 77

--- query_002
-- masked: ssn
SELECT id, full_name, ssn FROM customers WHERE id = 77

--- query_003
-- masked: ssn,email,phone
SELECT * FROM customers WHERE id BETWEEN 1 AND 5 ORDER BY id

--- query_004
-- masked: ssn,email,phone
SELECT c.* FROM customers AS c ORDER BY c.id LIMIT 3

--- query_005
-- masked: ssn,email,phone
SELECT *, 1 AS one FROM customers WHERE id = 9

--- query_006
-- masked: ssn,email,phone
SELECT upper(city) AS town, * FROM customers WHERE id = 9

--- query_007
-- masked: ssn,email,phone
SELECT *, length(full_name) AS letters, count(*) OVER () AS n FROM customers WHERE id < 4 ORDER BY 1

--- query_008
-- masked: ssn,email,phone
SELECT * FROM customers WHERE id < 40 ORDER BY 2, 1 LIMIT 3

--- query_009
SELECT count(*) FROM customers

--- query_010
SELECT count(ssn), count(email), count(*) FROM customers

--- query_011
SELECT city, count(*) FROM customers GROUP BY city ORDER BY city

--- query_012
SELECT city, count(*) AS n FROM customers GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3

--- query_013
SELECT city, count(ssn) AS known FROM customers GROUP BY city HAVING count(*) > 2000 ORDER BY city

--- query_014
SELECT DISTINCT city FROM customers ORDER BY city

--- query_015
SELECT DISTINCT ON (city) city, id, full_name FROM customers ORDER BY city, id

--- query_016
SELECT min(birth_date), max(birth_date) FROM customers

--- query_017
SELECT date_trunc('year', birth_date)::date AS year, count(*) FROM customers GROUP BY 1 ORDER BY 1 LIMIT 10

--- query_018
SELECT extract(decade FROM birth_date) AS decade, count(*) FROM customers GROUP BY decade ORDER BY decade

--- query_019
SELECT id, age(DATE '2026-01-01', birth_date) AS age FROM customers WHERE id < 5 ORDER BY id

--- query_020
SELECT split_part(full_name, ' ', 1) AS first, count(*) FROM customers GROUP BY first ORDER BY first

--- query_021
SELECT upper(full_name), lower(city), initcap(city) FROM customers WHERE id = 3

--- query_022
SELECT full_name || ', ' || city AS line FROM customers WHERE id < 6 ORDER BY id

--- query_023
SELECT format('%s lives in %s', full_name, city) FROM customers WHERE id = 8

--- query_024
SELECT concat_ws('/', id, city, birth_date) FROM customers WHERE id = 8

--- query_025
SELECT left(full_name, 3), right(full_name, 3), length(full_name), position('a' IN full_name) FROM customers WHERE id = 12

--- query_026
SELECT replace(city, 'a', 'o'), reverse(city), md5(city), translate(city, 'abc', 'xyz') FROM customers WHERE id = 12

--- query_027
SELECT id, coalesce(notes, 'nothing') AS note FROM customers WHERE id BETWEEN 1 AND 5 ORDER BY id

--- query_028
SELECT id FROM customers WHERE notes IS NOT NULL ORDER BY id LIMIT 5

--- query_029
-- masked: notes
SELECT id, notes FROM customers WHERE id = 50

--- query_030
SELECT id FROM customers WHERE full_name LIKE 'Ada%' AND city = 'Boise' ORDER BY id LIMIT 5

--- query_031
SELECT id FROM customers WHERE full_name ILIKE '%mason%' ORDER BY id LIMIT 5

--- query_032
SELECT id FROM customers WHERE full_name ~ '^(Ada|Ben) ' ORDER BY id LIMIT 5

--- query_033
SELECT id FROM customers WHERE id IN (1, 5, 9) ORDER BY id DESC

--- query_034
SELECT id FROM customers WHERE id = ANY (ARRAY[1, 2, 3]) ORDER BY id

--- query_035
SELECT id FROM customers WHERE birth_date BETWEEN DATE '1970-01-01' AND DATE '1970-02-01' ORDER BY id LIMIT 5

--- query_036
SELECT id FROM customers WHERE created_at > TIMESTAMPTZ '2023-01-01' ORDER BY created_at LIMIT 3

--- query_037
SELECT id, created_at, created_at::date, to_char(created_at, 'YYYY-MM-DD HH24:MI') FROM customers WHERE id = 4

--- query_038
SELECT id, CASE WHEN birth_date < DATE '1960-01-01' THEN 'senior' ELSE 'other' END AS segment FROM customers WHERE id < 8 ORDER BY id

--- query_039
SELECT CASE city WHEN 'Boise' THEN 1 WHEN 'Dover' THEN 2 END AS code, count(*) FROM customers GROUP BY 1 ORDER BY 1

--- query_040
SELECT count(*) FILTER (WHERE city = 'Boise') AS boise, count(*) FILTER (WHERE city <> 'Boise') AS others FROM customers

--- query_041
SELECT email IS NULL AS missing, count(*) FROM customers GROUP BY 1

--- query_042
SELECT ssn IS NOT NULL AS has_ssn FROM customers WHERE id = 2

--- query_043
SELECT id, full_name FROM customers WHERE email = 'customer77@example.com'

--- query_044
-- masked: email
SELECT id, email FROM customers WHERE email LIKE 'customer7_@example.com' ORDER BY id

--- query_045
-- masked: phone
SELECT id, phone FROM customers WHERE phone = '+1-202-555-0177' ORDER BY id LIMIT 3

--- query_046
-- masked: phone
SELECT phone FROM customers WHERE id = 5

--- query_047
-- masked: mail
SELECT lower(email) AS mail FROM customers WHERE id = 5

--- query_048
-- masked: mailbox
SELECT split_part(email, '@', 1) AS mailbox FROM customers WHERE id = 5

--- query_049
-- masked: x
SELECT reverse(ssn) AS x, city FROM customers WHERE id = 5

--- query_050
-- masked: last_four
SELECT right(ssn, 4) AS last_four, full_name FROM customers WHERE id = 5

--- query_051
-- masked: x
SELECT max(ssn) AS x, max(city) FROM customers

--- query_052
-- masked: mails
SELECT string_agg(city, ',' ORDER BY id), string_agg(email, ',' ORDER BY id) AS mails FROM customers WHERE id < 4

--- query_053
SELECT array_agg(id ORDER BY id), array_agg(city ORDER BY id) FROM customers WHERE id < 4

--- query_054
SELECT json_agg(city ORDER BY id), jsonb_agg(id ORDER BY id) FROM customers WHERE id < 4

--- query_055
SELECT json_build_object('id', id, 'city', city) FROM customers WHERE id = 4

--- query_056
SELECT row_to_json(q) FROM (SELECT id, city FROM customers WHERE id = 4) AS q

--- query_057
SELECT to_jsonb(q) FROM (SELECT id, kind, balance FROM accounts WHERE id = 4) AS q

--- query_058
SELECT jsonb_build_object('n', count(*), 'cities', count(DISTINCT city)) FROM customers

--- query_059
SELECT count(DISTINCT city), count(DISTINCT full_name) FROM customers

--- query_060
SELECT id, kind, balance FROM accounts WHERE id = 7

--- query_061
SELECT * FROM accounts ORDER BY id LIMIT 5

--- query_062
SELECT * FROM accounts ORDER BY balance DESC, id LIMIT 5

--- query_063
SELECT kind, sum(balance), avg(balance), count(*) FROM accounts GROUP BY kind ORDER BY kind

--- query_064
SELECT kind, round(avg(balance), 2) AS mean, min(balance), max(balance) FROM accounts GROUP BY kind ORDER BY mean

--- query_065
SELECT sum(balance) FROM accounts WHERE opened_on >= DATE '2020-01-01'

--- query_066
SELECT stddev(balance), variance(balance) FROM accounts WHERE id < 1000

--- query_067
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY balance), percentile_disc(0.9) WITHIN GROUP (ORDER BY balance) FROM accounts

--- query_068
SELECT mode() WITHIN GROUP (ORDER BY kind) FROM accounts

--- query_069
SELECT corr(balance, customer_id), regr_slope(balance, customer_id) FROM accounts

--- query_070
SELECT width_bucket(balance, 0, 100000, 5) AS bucket, count(*) FROM accounts GROUP BY bucket ORDER BY bucket

--- query_071
SELECT kind, count(*) FROM accounts GROUP BY ROLLUP (kind) ORDER BY kind NULLS LAST

--- query_072
SELECT kind, extract(year FROM opened_on) AS year, count(*) FROM accounts GROUP BY CUBE (kind, 2) ORDER BY 1, 2 LIMIT 20

--- query_073
SELECT grouping(kind), kind, count(*) FROM accounts GROUP BY GROUPING SETS ((kind), ()) ORDER BY 1, 2

--- query_074
SELECT opened_on, balance::int, balance::text, balance * 2, balance / 3 FROM accounts WHERE id = 9

--- query_075
SELECT id::text, customer_id::bigint, opened_on::timestamp FROM accounts WHERE id = 9

--- query_076
SELECT id, rank() OVER (ORDER BY balance DESC) FROM accounts WHERE id < 10 ORDER BY id

--- query_077
SELECT id, kind, row_number() OVER (PARTITION BY kind ORDER BY balance) AS n FROM accounts WHERE id < 10 ORDER BY id

--- query_078
SELECT id, balance - lag(balance) OVER (ORDER BY id) AS change FROM accounts WHERE id < 10 ORDER BY id

--- query_079
SELECT id, sum(balance) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM accounts WHERE id < 10 ORDER BY id

--- query_080
SELECT id, ntile(4) OVER w, first_value(kind) OVER w, cume_dist() OVER w FROM accounts WHERE id < 10 WINDOW w AS (ORDER BY balance) ORDER BY id

--- query_081
SELECT c.full_name, a.balance FROM customers AS c JOIN accounts AS a ON a.customer_id = c.id WHERE c.id = 77 ORDER BY a.id

--- query_082
SELECT c.city, sum(a.balance) AS total FROM customers c JOIN accounts a ON a.customer_id = c.id GROUP BY c.city ORDER BY total DESC

--- query_083
SELECT full_name, balance, kind FROM customers JOIN accounts ON customer_id = customers.id WHERE customers.id < 4 ORDER BY accounts.id

--- query_084
SELECT a.*, c.full_name FROM accounts a JOIN customers c ON c.id = a.customer_id WHERE a.id < 4 ORDER BY a.id

--- query_085
-- masked: ssn,email,phone
SELECT c.*, a.kind FROM customers c JOIN accounts a ON a.customer_id = c.id WHERE c.id = 4 ORDER BY a.id

--- query_086
SELECT c.id, count(a.id) FROM customers c LEFT JOIN accounts a ON a.customer_id = c.id WHERE c.id < 6 GROUP BY c.id ORDER BY c.id

--- query_087
SELECT c.id FROM customers c WHERE EXISTS (SELECT 1 FROM accounts a WHERE a.customer_id = c.id AND a.kind = 'loan') ORDER BY c.id LIMIT 5

--- query_088
SELECT c.id FROM customers c WHERE NOT EXISTS (SELECT FROM cards k WHERE k.customer_id = c.id) ORDER BY c.id LIMIT 5

--- query_089
SELECT id FROM customers WHERE id IN (SELECT customer_id FROM accounts WHERE balance > 99900) ORDER BY id LIMIT 5

--- query_090
SELECT id, (SELECT count(*) FROM accounts a WHERE a.customer_id = c.id) AS accounts FROM customers c WHERE id < 5 ORDER BY id

--- query_091
SELECT c.full_name, q.total FROM customers c JOIN (SELECT customer_id, sum(balance) AS total FROM accounts GROUP BY customer_id) AS q ON q.customer_id = c.id WHERE c.id < 5 ORDER BY c.id

--- query_092
SELECT c.id, l.kind, l.balance FROM customers c CROSS JOIN LATERAL (SELECT kind, balance FROM accounts a WHERE a.customer_id = c.id ORDER BY balance DESC LIMIT 1) AS l WHERE c.id < 5 ORDER BY c.id

--- query_093
SELECT a.kind, t.memo FROM accounts a JOIN transfers t ON t.from_account = a.id WHERE a.id = 7 ORDER BY t.id LIMIT 3

--- query_094
SELECT c.full_name, t.amount, t.made_at FROM transfers t JOIN accounts a ON a.id = t.from_account JOIN customers c ON c.id = a.customer_id WHERE t.id < 4 ORDER BY t.id

--- query_095
SELECT * FROM accounts a JOIN transfers t ON t.from_account = a.id WHERE t.id = 3

--- query_096
SELECT x.id, y.id FROM accounts x JOIN accounts y USING (customer_id) WHERE x.id = 5 ORDER BY y.id

--- query_097
SELECT count(*) FROM accounts NATURAL JOIN (SELECT 'loan' AS kind) AS k

--- query_098
-- masked: card_number
SELECT id, card_number, expires_on FROM cards WHERE id = 5

--- query_099
-- masked: card_number
SELECT * FROM cards ORDER BY id LIMIT 3

--- query_100
SELECT is_blocked, count(*) FROM cards GROUP BY is_blocked ORDER BY is_blocked

--- query_101
SELECT count(*) FROM cards WHERE expires_on < DATE '2028-01-01'

--- query_102
SELECT date_trunc('month', expires_on) AS month, count(*) FROM cards GROUP BY month ORDER BY month LIMIT 5

--- query_103
-- masked: card_number
SELECT c.full_name, k.card_number, k.expires_on FROM customers c JOIN cards k ON k.customer_id = c.id WHERE c.id = 9

--- query_104
-- masked: bin
SELECT left(card_number, 6) AS bin, id FROM cards WHERE id = 9

--- query_105
SELECT bool_or(is_blocked), bool_and(is_blocked), every(id > 0) FROM cards

--- query_106
SELECT * FROM transfers ORDER BY id LIMIT 5

--- query_107
SELECT memo, amount FROM transfers WHERE id BETWEEN 10 AND 15 ORDER BY id

--- query_108
SELECT split_part(memo, ' ', 1) AS what, count(*), sum(amount) FROM transfers GROUP BY what ORDER BY what

--- query_109
SELECT substr(memo, 1, 4), regexp_replace(memo, '[0-9]+', '#'), strpos(memo, ' ') FROM transfers WHERE id = 33

--- query_110
SELECT (regexp_match(memo, '([a-z]+) ([0-9]+)'))[1] FROM transfers WHERE id = 33

--- query_111
SELECT date_trunc('day', made_at) AS day, sum(amount) FROM transfers GROUP BY day ORDER BY day LIMIT 7

--- query_112
SELECT extract(hour FROM made_at AT TIME ZONE 'UTC') AS hour, count(*) FROM transfers GROUP BY hour ORDER BY hour

--- query_113
SELECT made_at, made_at + INTERVAL '1 day', extract(epoch FROM made_at) FROM transfers WHERE id = 5

--- query_114
SELECT to_char(made_at, 'YYYYMMDDHH24MISS'), to_char(amount, '999G999D99') FROM transfers WHERE id < 50 ORDER BY id

--- query_115
SELECT amount, trunc(amount), ceil(amount), round(amount, 1), mod(amount, 7) FROM transfers WHERE id = 9

--- query_116
SELECT greatest(amount, 100), least(amount, 100), abs(amount - 1000), sign(amount - 1000) FROM transfers WHERE id = 9

--- query_117
SELECT nullif(memo, 'rent 5'), coalesce(nullif(from_account, 6), 0) FROM transfers WHERE id = 5

--- query_118
SELECT from_account, count(*) FROM transfers GROUP BY from_account HAVING count(*) > 2 ORDER BY 1 LIMIT 5

--- query_119
SELECT sum(amount) FILTER (WHERE memo LIKE 'rent%') AS rent, sum(amount) AS everything FROM transfers

--- query_120
SELECT md5(memo), encode(convert_to(memo, 'UTF8'), 'hex'), encode(convert_to(memo, 'UTF8'), 'base64') FROM transfers WHERE id = 12

--- query_121
SELECT g, count(t.id) FROM generate_series(1, 5) AS g LEFT JOIN transfers t ON t.id % 5 + 1 = g GROUP BY g ORDER BY g

--- query_122
SELECT d::date, count(c.id) FROM generate_series(DATE '2020-01-01', DATE '2020-01-05', INTERVAL '1 day') AS d LEFT JOIN customers c ON c.created_at::date = d::date GROUP BY 1 ORDER BY 1

--- query_123
WITH rich AS (SELECT customer_id, sum(balance) AS total FROM accounts GROUP BY customer_id HAVING sum(balance) > 150000) SELECT count(*) FROM rich

--- query_124
WITH a AS (SELECT * FROM accounts WHERE id < 5), b AS (SELECT * FROM a WHERE kind = 'loan') SELECT * FROM b ORDER BY id

--- query_125
-- masked: ssn,email,phone
WITH c AS (SELECT * FROM customers WHERE id < 3) SELECT * FROM c ORDER BY id

--- query_126
-- masked: ssn
WITH c AS (SELECT id, full_name, ssn FROM customers WHERE id < 3) SELECT full_name, ssn FROM c ORDER BY id

--- query_127
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT sum(i) FROM n

--- query_128
WITH RECURSIVE chain(id, step) AS (SELECT to_account, 1 FROM transfers WHERE id = 1 UNION ALL SELECT t.to_account, c.step + 1 FROM chain c JOIN transfers t ON t.id = c.id WHERE c.step < 4) SELECT * FROM chain

--- query_129
SELECT city FROM customers UNION SELECT kind FROM accounts ORDER BY 1

--- query_130
SELECT id, city FROM customers WHERE id < 3 UNION ALL SELECT id, kind FROM accounts WHERE id < 3 ORDER BY 1, 2

--- query_131
SELECT id FROM customers INTERSECT SELECT customer_id FROM cards ORDER BY 1 LIMIT 5

--- query_132
SELECT id FROM customers EXCEPT SELECT customer_id FROM cards ORDER BY 1 LIMIT 5

--- query_133
SELECT * FROM accounts WHERE id < 3 UNION ALL SELECT * FROM accounts WHERE id BETWEEN 5 AND 6 ORDER BY id

--- query_134
-- masked: ssn,email,phone
SELECT * FROM customers WHERE id = 3 UNION ALL SELECT * FROM customers WHERE id = 5

--- query_135
SELECT id AS ssn, kind AS email FROM accounts WHERE id = 3

--- query_136
SELECT city AS phone, id AS card_number FROM customers WHERE id = 3

--- query_137
SELECT x.total FROM (SELECT count(*) AS total FROM cards) AS x

--- query_138
SELECT s.city, s.n, s.n * 100.0 / sum(s.n) OVER () AS share FROM (SELECT city, count(*) AS n FROM customers GROUP BY city) AS s ORDER BY s.city

--- query_139
-- masked: ssn,email,phone
SELECT * FROM (SELECT * FROM customers WHERE id < 4) AS q ORDER BY 1

--- query_140
SELECT * FROM (SELECT id, upper(city) AS town FROM customers WHERE id < 4) AS q ORDER BY id

--- query_141
SELECT q.town FROM (SELECT *, upper(city) AS town FROM customers WHERE id < 4) AS q ORDER BY q.id

--- query_142
SELECT * FROM city_counts ORDER BY city

--- query_143
SELECT id, full_name, city FROM customer_directory WHERE id = 4

--- query_144
-- masked: reference
SELECT * FROM customer_directory WHERE id = 4

--- query_145
SELECT id FROM customer_codes WHERE id = 4

--- query_146
SELECT id, tag FROM people WHERE id = 4

--- query_147
-- masked: ssn,turned
SELECT * FROM people WHERE id = 4

--- query_148
SELECT id, month FROM card_log WHERE id = 4

--- query_149
SELECT month, count(*) FROM card_log GROUP BY month ORDER BY month

--- query_150
-- masked: ssn
SELECT * FROM filings WHERE id = 4

--- query_151
SELECT 1

--- query_152
SELECT 1 + 1 AS two, 'text' AS word, NULL AS nothing, true AS yes, 1.5::float8 AS real

--- query_153
SELECT current_database(), current_schema(), pg_typeof(1), version() LIKE 'PostgreSQL%'

--- query_154
SELECT x FROM (VALUES (1, 'a'), (2, 'b')) AS v(x, y) ORDER BY x DESC

--- query_155
VALUES (1, 'one'), (2, 'two')

--- query_156
SELECT unnest(ARRAY[1, 2, 3]), unnest(ARRAY['a', 'b', 'c'])

--- query_157
SELECT string_to_array('a,b,c', ','), array_length(ARRAY[1, 2], 1), ARRAY[1, 2] || 3

--- query_158
SELECT '{"a": {"b": [1, 2]}}'::jsonb -> 'a' -> 'b' -> 1, '{"a": 1}'::json ->> 'a'

--- query_159
SELECT key, value FROM jsonb_each('{"a": 1, "b": "x"}'::jsonb) ORDER BY key

--- query_160
SELECT to_tsvector('english', 'the fat cats') @@ to_tsquery('cat')

--- query_161
SELECT relname, relkind FROM pg_class WHERE relname IN ('customers', 'accounts') ORDER BY relname

--- query_162
SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'customers' ORDER BY ordinal_position

--- query_163
SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = 'cards'::regclass AND a.attnum > 0 ORDER BY a.attnum

--- query_164
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'accounts'::regclass ORDER BY conname

--- query_165
SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'transfers' ORDER BY indexname

--- query_166
SELECT pg_get_viewdef('city_counts'::regclass)

--- query_167
SELECT pg_size_pretty(pg_relation_size('customers'::regclass)) <> '', has_table_privilege('customers', 'select')

--- query_168
SELECT obj_description('customers'::regclass), col_description('customers'::regclass, 1)

--- query_169
SELECT name, setting FROM pg_settings WHERE name IN ('block_size', 'max_identifier_length') ORDER BY name

--- query_170
SELECT reltuples >= 0 FROM pg_class WHERE oid = 'customers'::regclass

--- query_171
SHOW server_version_num

--- query_172
EXPLAIN (COSTS OFF) SELECT id, city FROM customers WHERE id = 5

--- query_173
EXPLAIN (COSTS OFF) SELECT * FROM customers ORDER BY id

--- query_174
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT count(*) FROM customers WHERE id + 0 < 5

--- query_175
EXPLAIN (FORMAT JSON, COSTS OFF) SELECT c.city, count(*) FROM customers c GROUP BY c.city

--- query_176
COPY accounts TO STDOUT (FORMAT csv, HEADER)

--- query_177
COPY (SELECT id, city FROM customers WHERE id < 5 ORDER BY id) TO STDOUT

--- query_178
COPY (SELECT * FROM accounts WHERE id < 5 ORDER BY id) TO STDOUT (FORMAT csv)

--- query_179
COPY (SELECT * FROM transfers WHERE id < 5 ORDER BY id) TO STDOUT (FORMAT binary)

--- query_180
-- masked: 2
COPY (SELECT id, ssn, city FROM customers WHERE id < 5 ORDER BY id) TO STDOUT (FORMAT csv)

--- query_181
-- masked: 3,4,5
COPY (SELECT * FROM customers WHERE id < 5 ORDER BY id) TO STDOUT

--- query_182
COPY customers (id, full_name, city) TO STDOUT

--- query_183
COPY (SELECT kind, count(*) FROM accounts GROUP BY kind ORDER BY kind) TO STDOUT (FORMAT csv, QUOTE '~', FORCE_QUOTE *)

--- query_184
SELECT id, city FROM customers TABLESAMPLE SYSTEM (100) WHERE id = 6

--- query_185
SELECT id FROM accounts WHERE id < 4 ORDER BY id DESC

--- query_186
SELECT id FROM customers ORDER BY id OFFSET 10 FETCH FIRST 3 ROWS ONLY

--- query_187
SELECT id FROM accounts ORDER BY opened_on, id LIMIT (SELECT count(*) / 10000 FROM accounts)

--- query_188
SELECT max(id) - min(id) + 1 = count(*) AS dense FROM customers

--- query_189
SELECT c.city, round(avg(a.balance), 2) FROM customers c, accounts a WHERE a.customer_id = c.id AND c.birth_date > DATE '1990-01-01' GROUP BY c.city ORDER BY 2 DESC LIMIT 3

--- cursor
-- by: simple
BEGIN
;;
DECLARE c CURSOR FOR SELECT id, upper(city), count(*) OVER () FROM customers WHERE id < 9 ORDER BY id
;;
FETCH 3 FROM c
;;
FETCH ALL FROM c
;;
CLOSE c
;;
COMMIT

--- cursor_with_masks
-- by: simple
-- masked: ssn
BEGIN
;;
DECLARE c CURSOR FOR SELECT id, ssn, lower(full_name) AS name FROM customers WHERE id < 9 ORDER BY id
;;
FETCH FORWARD 3 FROM c
;;
MOVE 2 FROM c
;;
FETCH NEXT FROM c
;;
COMMIT

--- cursor_of_a_star
-- by: simple
-- masked: ssn,email,phone
BEGIN
;;
DECLARE c SCROLL CURSOR FOR SELECT * FROM customers WHERE id < 9 ORDER BY id
;;
FETCH LAST FROM c
;;
FETCH PRIOR FROM c
;;
COMMIT

--- several_statements
-- by: simple
SELECT count(*) FROM cards; SELECT kind FROM accounts WHERE id = 4; SELECT 1

--- transaction
-- by: simple
BEGIN
;;
SET LOCAL statement_timeout = '30s'
;;
SELECT sum(amount) FROM transfers WHERE id < 100
;;
SAVEPOINT s
;;
SELECT count(*) FROM accounts
;;
ROLLBACK TO s
;;
COMMIT

--- settings
-- by: simple
SET datestyle = 'German'
;;
SELECT birth_date FROM customers WHERE id = 1
;;
RESET datestyle

--- prepared_and_executed
-- masked: ssn
PREPARE p (int) AS SELECT id, city, ssn FROM customers WHERE id = $1
;;
EXECUTE p(77)
;;
EXECUTE p(78)
;;
DEALLOCATE p
;;
PREPARE p AS SELECT c.city, count(*), sum(a.balance) FROM customers c JOIN accounts a ON a.customer_id = c.id WHERE c.id < $1 GROUP BY 1 ORDER BY 1
;;
EXECUTE p(50)
;;
EXPLAIN (COSTS off) EXECUTE p(50)
;;
DEALLOCATE ALL

--- prepared_star
-- masked: ssn,email,phone
PREPARE p AS SELECT * FROM customers WHERE id = $1
;;
EXECUTE p(9)

--- prepared_with_a_join
PREPARE j (int, text) AS SELECT c.*, t.memo, length($2) AS n FROM accounts c JOIN transfers t ON t.from_account = c.id WHERE c.id = $1 ORDER BY t.id LIMIT 3
;;
EXECUTE j(7, 'x')
