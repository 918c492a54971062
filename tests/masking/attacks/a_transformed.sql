-- The value, written otherwise, in a result's column. What computes it can't fail and says nothing else: masked.
-- A whole row has the strictest of its columns' masks, the phone's.

--- plain
-- expect: mask us_ssn
SELECT ssn FROM customers WHERE id = 77

--- renamed
-- expect: mask us_ssn
SELECT ssn AS city FROM customers WHERE id = 77

--- quoted_name
-- expect: mask us_ssn
SELECT c."ssn" AS "x y" FROM "customers" AS c WHERE c."id" = 77

--- card_plain
-- expect: mask card_number
-- secret: SELECT card_number FROM cards WHERE id = 77
SELECT card_number FROM cards WHERE id = 77

--- star
-- expect: mask us_ssn
SELECT * FROM customers WHERE id = 77

--- table_command
-- expect: mask us_ssn
-- secret: SELECT ssn FROM customers LIMIT 1
TABLE customers LIMIT 1

--- concatenated
-- expect: mask us_ssn
SELECT ssn || '' FROM customers WHERE id = 77

--- concatenated_number
-- expect: mask us_ssn
SELECT ssn || 1 FROM customers WHERE id = 77

--- lower
-- expect: mask us_ssn
SELECT lower(ssn) FROM customers WHERE id = 77

--- reversed
-- expect: mask us_ssn
-- undo: reverse
SELECT reverse(ssn) FROM customers WHERE id = 77

--- reversed_card
-- expect: mask card_number
-- undo: reverse
-- secret: SELECT card_number FROM cards WHERE id = 77
SELECT reverse(card_number) FROM cards WHERE id = 77

--- ends_of_a_partial_mask
-- note: a partial mask shows the last four characters of each piece, and the pieces together everything
-- expect: mask us_ssn
-- secret: SELECT left(ssn, 6) FROM customers WHERE id = 77
SELECT left(ssn, 6), reverse(ssn), ssn FROM customers WHERE id = 77

--- last_four_of_the_head
-- expect: mask us_ssn
-- secret: SELECT substr(ssn, 1, 6) FROM customers WHERE id = 77
SELECT substr(ssn, 1, 6) FROM customers WHERE id = 77

--- cut_by_a_cast
-- expect: mask us_ssn
-- secret: SELECT substr(ssn, 1, 6) FROM customers WHERE id = 77
SELECT ssn::varchar(6) FROM customers WHERE id = 77

--- cut_to_characters
-- expect: mask us_ssn
-- secret: SELECT substr(ssn, 1, 6) FROM customers WHERE id = 77
SELECT ssn::char(6) FROM customers WHERE id = 77

--- substr_one_character_a_column
-- expect: mask us_ssn
-- undo: digits
SELECT substr(ssn,1,1), substr(ssn,2,1), substr(ssn,3,1), substr(ssn,5,1), substr(ssn,6,1),
  substr(ssn,8,1), substr(ssn,9,1), substr(ssn,10,1), substr(ssn,11,1) FROM customers WHERE id = 77

--- substring_for
-- expect: mask us_ssn
-- undo: digits
SELECT substring(ssn FROM 1 FOR 3), substring(ssn FROM 5 FOR 2), substring(ssn FROM 8) FROM customers WHERE id = 77

--- one_character_a_row
-- expect: mask us_ssn
-- undo: rows
SELECT substr(c.ssn, n, 1) FROM customers c, generate_series(1, 11) AS n WHERE c.id = 77

--- one_character_a_row_of_a_card
-- expect: mask card_number
-- undo: rows
-- secret: SELECT card_number FROM cards WHERE id = 77
SELECT substr(c.card_number, n, 1) FROM cards c CROSS JOIN generate_series(1, 16) AS n WHERE c.id = 77

--- split_part
-- expect: mask us_ssn
-- undo: digits
SELECT split_part(ssn, '-', 1), split_part(ssn, '-', 2), split_part(ssn, '-', 3) FROM customers WHERE id = 77

--- right_left
-- expect: mask us_ssn
-- undo: digits
SELECT left(ssn, 3), right(left(ssn, 6), 2), right(ssn, 4) FROM customers WHERE id = 77

--- without_dashes
-- expect: mask us_ssn
-- undo: digits
SELECT replace(ssn, '-', '') FROM customers WHERE id = 77

--- padded
-- expect: mask us_ssn
SELECT lpad(ssn, 20, 'x') FROM customers WHERE id = 77

--- repeated
-- expect: mask us_ssn
SELECT repeat(ssn, 3) FROM customers WHERE id = 77

--- translated_to_letters
-- expect: mask us_ssn
-- undo: letters
SELECT translate(ssn, '0123456789', 'abcdefghij') FROM customers WHERE id = 77

--- overlaid
-- expect: mask us_ssn
-- undo: digits
SELECT overlay(ssn PLACING '' FROM 4 FOR 1) FROM customers WHERE id = 77

--- quoted_literal
-- expect: mask us_ssn
SELECT quote_literal(ssn) FROM customers WHERE id = 77

--- formatted
-- expect: mask us_ssn
SELECT format('customer %s has %s', id, ssn) FROM customers WHERE id = 77

--- hexed
-- expect: mask us_ssn
-- undo: hex
SELECT encode(convert_to(ssn, 'UTF8'), 'hex') FROM customers WHERE id = 77

--- base64ed
-- expect: mask us_ssn
-- undo: base64
SELECT encode(convert_to(ssn, 'UTF8'), 'base64') FROM customers WHERE id = 77

--- bytes
-- expect: mask us_ssn
-- undo: hex
SELECT convert_to(ssn, 'UTF8') FROM customers WHERE id = 77

--- md5
-- note: a thousand million numbers are hashed in a second
-- expect: mask us_ssn
-- secret: SELECT md5(ssn) FROM customers WHERE id = 77
SELECT md5(ssn) FROM customers WHERE id = 77

--- sha256
-- expect: mask us_ssn
-- secret: SELECT encode(sha256(convert_to(ssn, 'UTF8')), 'hex') FROM customers WHERE id = 77
SELECT encode(sha256(convert_to(ssn, 'UTF8')), 'hex') FROM customers WHERE id = 77

--- sha512
-- expect: mask us_ssn
-- secret: SELECT left(encode(sha512(convert_to(ssn, 'UTF8')), 'hex'), 64) FROM customers WHERE id = 77
SELECT sha512(convert_to(ssn, 'UTF8')) FROM customers WHERE id = 77

--- digest_of_a_card
-- expect: mask card_number
-- secret: SELECT md5(card_number) FROM cards WHERE id = 77
SELECT md5(card_number) FROM cards WHERE id = 77

--- ascii_codes
-- expect: mask us_ssn
-- undo: codes
SELECT ascii(substr(c.ssn, n, 1)) FROM customers c, generate_series(1, 11) AS n WHERE c.id = 77

--- ascii_codes_in_columns
-- expect: mask us_ssn
-- undo: codes
SELECT ascii(ssn), ascii(substr(ssn, 2)), ascii(substr(ssn, 3)), ascii(substr(ssn, 4)), ascii(substr(ssn, 5)),
  ascii(substr(ssn, 6)), ascii(substr(ssn, 7)), ascii(substr(ssn, 8)), ascii(substr(ssn, 9)),
  ascii(substr(ssn, 10)), ascii(substr(ssn, 11)) FROM customers WHERE id = 77

--- coalesced
-- expect: mask us_ssn
SELECT coalesce(ssn, 'none') FROM customers WHERE id = 77

--- greatest
-- expect: mask us_ssn
SELECT greatest(ssn, '0') FROM customers WHERE id = 77

--- case_that_is_true
-- expect: mask us_ssn
SELECT CASE WHEN id > 0 THEN ssn ELSE city END FROM customers WHERE id = 77

--- collated
-- expect: mask us_ssn
SELECT ssn COLLATE "C" FROM customers WHERE id = 77

--- maximum
-- expect: mask us_ssn
-- secret: SELECT max(ssn) FROM customers
SELECT max(ssn) FROM customers

--- minimum_of_a_group
-- expect: mask us_ssn
SELECT city, min(ssn) FROM customers WHERE id = 77 GROUP BY city

--- string_agg
-- expect: mask us_ssn
SELECT string_agg(ssn, ';') FROM customers WHERE id BETWEEN 76 AND 78

--- string_agg_of_characters
-- expect: mask us_ssn
-- undo: digits
SELECT string_agg(substr(c.ssn, n, 1), ' ' ORDER BY n) FROM customers c, generate_series(1, 11) AS n WHERE c.id = 77

--- array_agg
-- expect: mask us_ssn
SELECT array_agg(ssn) FROM customers WHERE id BETWEEN 76 AND 78

--- array
-- expect: mask us_ssn
SELECT ARRAY[ssn, city] FROM customers WHERE id = 77

--- array_of_a_query
-- expect: mask us_ssn
SELECT ARRAY(SELECT ssn FROM customers WHERE id = 77)

--- string_to_array
-- note: how many elements there are says what the value is, and arrays of different lengths do not go together
-- expect: deny default-deny probe of us_ssn
-- undo: digits
SELECT string_to_array(ssn, '-') FROM customers WHERE id = 77

--- array_to_string
-- note: how many elements there are says what the value is, and arrays of different lengths do not go together
-- expect: deny default-deny probe of us_ssn
-- undo: digits
SELECT array_to_string(string_to_array(ssn, '-'), '+') FROM customers WHERE id = 77

--- composite
-- expect: mask phone
SELECT c FROM customers AS c WHERE id = 77

--- composite_as_text
-- expect: mask phone
SELECT c::text FROM customers AS c WHERE id = 77

--- row_constructor
-- expect: mask us_ssn
SELECT ROW(id, ssn) FROM customers WHERE id = 77

--- field_of_a_composite
-- expect: mask us_ssn
SELECT (c).ssn FROM customers AS c WHERE id = 77

--- fields_of_a_composite
-- expect: mask us_ssn
SELECT (c).* FROM customers AS c WHERE id = 77

--- row_to_json
-- expect: mask phone
SELECT row_to_json(c) FROM customers AS c WHERE id = 77

--- to_jsonb
-- expect: mask phone
SELECT to_jsonb(c) FROM customers AS c WHERE id = 77

--- to_json_of_the_value
-- expect: mask us_ssn
SELECT to_json(ssn) FROM customers WHERE id = 77

--- json_agg
-- expect: mask us_ssn
SELECT json_agg(ssn) FROM customers WHERE id BETWEEN 76 AND 78

--- jsonb_agg_of_rows
-- expect: mask phone
SELECT jsonb_agg(c) FROM customers AS c WHERE id = 77

--- json_build_object
-- expect: mask us_ssn
SELECT json_build_object('id', id, 'code', ssn) FROM customers WHERE id = 77

--- json_build_array
-- expect: mask us_ssn
SELECT json_build_array(id, reverse(ssn)) FROM customers WHERE id = 77
-- undo: reverse

--- json_object_agg
-- expect: mask us_ssn
SELECT json_object_agg(id, ssn) FROM customers WHERE id = 77

--- first_value
-- expect: mask us_ssn
SELECT first_value(ssn) OVER (ORDER BY id) FROM customers WHERE id = 77

--- lag
-- expect: mask us_ssn
SELECT lag(ssn) OVER (ORDER BY id) FROM customers WHERE id IN (77, 78)

--- nth_value
-- expect: mask us_ssn
SELECT nth_value(ssn, 1) OVER (ORDER BY id) FROM customers WHERE id = 77

--- sampled
-- expect: mask us_ssn
SELECT ssn FROM customers TABLESAMPLE BERNOULLI (100) WHERE id = 77

--- only
-- expect: mask us_ssn
SELECT ssn FROM ONLY customers WHERE id = 77

--- for_update
-- expect: mask us_ssn
-- as: locker
SELECT ssn FROM customers WHERE id = 77 FOR UPDATE

--- for_update_without_leave
-- expect: deny default-deny no policy permits update on customers
SELECT ssn FROM customers WHERE id = 77 FOR UPDATE

--- column_aliases
-- expect: mask us_ssn
SELECT c.z FROM customers AS c(x, y, z) WHERE c.x = 77

--- schema_qualified
-- expect: mask us_ssn
SELECT public.customers.ssn FROM public.customers WHERE id = 77
