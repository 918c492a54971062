-- What the server says beside its rows. The prober's conditions are allowed, so that the texts come at all.

--- cast_error
-- as: prober
-- expect: nothing
SELECT ssn::int FROM customers WHERE id = 77

--- cast_error_reversed
-- as: prober
-- expect: nothing
-- undo: reverse
SELECT reverse(ssn)::int FROM customers WHERE id = 77

--- cast_error_in_letters
-- as: prober
-- expect: nothing
-- undo: letters
SELECT translate(ssn, '0123456789', 'abcdefghij')::date FROM customers WHERE id = 77

--- range_error
-- as: prober
-- expect: nothing
-- undo: digits
SELECT (replace(ssn, '-', '') || '0000000000000')::int8 FROM customers WHERE id = 77

--- error_of_a_number
-- note: the number stands in no quotes
-- as: prober
-- expect: nothing
-- undo: digits
SELECT get_byte('\x00', replace(ssn, '-', '')::int) FROM customers WHERE id = 77

--- unknown_type
-- note: of class 42, as errors about the statement's own text are
-- as: prober
-- expect: nothing
-- undo: reverse
SELECT reverse(ssn)::regtype FROM customers WHERE id = 77

--- unknown_relation
-- as: prober
-- expect: nothing
-- undo: reverse
SELECT ('x' || reverse(ssn))::regclass FROM customers WHERE id = 77

--- unknown_setting
-- as: prober
-- expect: nothing
-- undo: reverse
SELECT current_setting(reverse(ssn)) FROM customers WHERE id = 77

--- unknown_encoding
-- as: prober
-- expect: nothing
-- undo: reverse
SELECT encode('\x00', reverse(ssn)) FROM customers WHERE id = 77

--- unknown_unit
-- as: prober
-- expect: nothing
-- undo: reverse
SELECT date_part(reverse(ssn), now()) FROM customers WHERE id = 77

--- json_error
-- note: it is in the context as well
-- as: prober
-- expect: withhold
-- undo: reverse
SELECT ('"' || reverse(ssn))::json FROM customers WHERE id = 77

--- xml_error
-- note: the text stands in the detail as it is
-- as: prober
-- expect: withhold
-- undo: reverse
SELECT ('<a>' || reverse(ssn))::xml FROM customers WHERE id = 77

--- array_error
-- as: prober
-- expect: withhold
-- undo: reverse
SELECT ('{' || reverse(ssn))::text[] FROM customers WHERE id = 77

--- regex_error
-- as: prober
-- expect: nothing
-- undo: reverse
SELECT to_tsquery('simple', '''' || reverse(ssn) || ''' ! (') FROM customers WHERE id = 77

--- cast_error_of_a_card
-- as: prober
-- expect: nothing
-- undo: reverse
-- secret: SELECT card_number FROM cards WHERE id = 77
SELECT ('x' || reverse(card_number))::int FROM cards WHERE id = 77

--- error_through_a_cursor
-- as: prober
-- expect: nothing
-- undo: reverse
BEGIN
;;
DECLARE c CURSOR FOR SELECT reverse(ssn)::int FROM customers WHERE id = 77
;;
FETCH ALL FROM c

--- error_undescribed
-- as: prober
-- by: extended
-- expect: nothing
-- undo: reverse
SELECT reverse(ssn)::int FROM customers WHERE id = 77

--- error_of_a_view
-- as: prober
-- expect: nothing
-- undo: reverse
SELECT code::int FROM customer_codes WHERE id = 77

--- cast_error_refused
-- expect: deny default-deny probe of us_ssn
SELECT ssn::int FROM customers WHERE id = 77

--- cast_error_reversed_refused
-- expect: deny default-deny probe of us_ssn
-- undo: reverse
SELECT reverse(ssn)::numeric FROM customers WHERE id = 77

--- exception_of_a_function
-- as: caller
-- expect: withhold
-- undo: reverse
SELECT complain(77)

--- notice_of_a_function
-- as: caller
-- expect: withhold
-- undo: reverse
SELECT mutter(77)

--- exception_of_a_function_undescribed
-- by: extended
-- as: caller
-- expect: withhold
-- undo: reverse
SELECT complain(77)

--- row_that_violates
-- note: the detail shows the whole row
-- role: postgres
-- expect: deny default-deny update
UPDATE customers SET city = NULL WHERE id = 77

--- key_that_exists
-- role: postgres
-- expect: deny default-deny insert
INSERT INTO customers SELECT 0, full_name, ssn, email, phone, birth_date, city, notes, created_at FROM customers WHERE id = 77

--- key_that_is_missing
-- role: postgres
-- expect: deny no-ddl
CREATE TABLE bills (card text REFERENCES filings)
;;
CREATE UNIQUE INDEX ON filings (id, ssn); CREATE UNIQUE INDEX one ON filings ((left(ssn::text, 0)));
;;
INSERT INTO filings SELECT id, ssn FROM customers WHERE id = 77; CREATE UNIQUE INDEX two ON filings ((reverse(ssn::text)))
-- undo: reverse

--- do_that_raises
-- expect: deny no-opaque
-- undo: reverse
DO $$ BEGIN RAISE NOTICE '%', (SELECT reverse(ssn) FROM customers WHERE id = 77); END $$

--- do_that_fails
-- expect: deny no-opaque
-- undo: reverse
DO $$ BEGIN RAISE EXCEPTION USING MESSAGE = 'x', HINT = (SELECT reverse(ssn) FROM customers WHERE id = 77); END $$
