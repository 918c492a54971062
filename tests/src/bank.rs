//! The synthetic bank: 135,000 rows, the same every time. No person, card or account in it exists.
//!
//! Social security numbers have a valid form; card numbers pass the Luhn check (ISO/IEC 7812-1 annex B)
//! and start with 400000, a range used in tests; telephone numbers are 555-01xx, reserved for fiction.

/// The bank's database.
pub const DATABASE: &str = "bank";

/// The role that owns the bank's tables; agents log in as it.
pub const ROLE: &str = "app";

/// Every role's password.
pub const PASSWORD: &str = "synthetic-only";

/// Rows in all tables.
pub const COUNT_ROWS: &str = "SELECT (SELECT count(*) FROM customers) + (SELECT count(*) FROM accounts) \
     + (SELECT count(*) FROM cards) + (SELECT count(*) FROM transfers)";

/// Makes the role and the database; run in `postgres`.
pub(crate) const CREATE: &str = "
CREATE ROLE app LOGIN PASSWORD 'synthetic-only';
CREATE DATABASE bank OWNER app;
";

/// Makes the tables and their rows; run in [`DATABASE`].
pub(crate) const SQL: &str = r"
SET ROLE app;
CREATE SCHEMA IF NOT EXISTS public;

CREATE FUNCTION luhn_complete(body text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT body || ((10 - sum(CASE WHEN (length(body) - i) % 2 = 0
      THEN (d * 2) / 10 + (d * 2) % 10 ELSE d END) % 10) % 10)::text
  FROM (SELECT i, substr(body, i, 1)::int AS d FROM generate_series(1, length(body)) AS i) AS digits
$$;

CREATE TABLE customers (
  id int PRIMARY KEY, full_name text NOT NULL, ssn text NOT NULL UNIQUE, email text NOT NULL,
  phone text NOT NULL, birth_date date NOT NULL, city text NOT NULL, notes text, created_at timestamptz NOT NULL);
INSERT INTO customers
SELECT n,
  (ARRAY['Ada','Ben','Cleo','Dan','Eve','Finn','Gus','Hana','Ivo','June'])[1 + n % 10] || ' ' ||
  (ARRAY['Archer','Baker','Cooper','Draper','Fisher','Glover','Mason','Porter','Sawyer','Turner'])[1 + n / 10 % 10],
  lpad((100 + n % 500)::text, 3, '0') || '-' || lpad((10 + n / 500 % 89)::text, 2, '0') || '-' ||
  lpad((1000 + n * 7919 % 8999)::text, 4, '0'),
  'customer' || n || '@example.com',
  '+1-202-555-01' || lpad((n % 100)::text, 2, '0'),
  DATE '1940-01-01' + n * 37 % 22000,
  (ARRAY['Albany','Boise','Dover','Helena','Juneau','Lansing','Olympia','Pierre'])[1 + n % 8],
  CASE WHEN n % 50 = 0 THEN 'asked by mail from customer' || n || '@example.com about '
    || luhn_complete('400000' || lpad((n * 104729 % 1000000000)::text, 9, '0')) END,
  TIMESTAMPTZ '2020-01-01 00:00:00+00' + n * INTERVAL '97 minutes'
FROM generate_series(1, 20000) AS n;

CREATE TABLE accounts (
  id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, kind text NOT NULL,
  balance numeric(14,2) NOT NULL, opened_on date NOT NULL);
INSERT INTO accounts
SELECT n, 1 + n % 20000, (ARRAY['checking','savings','loan'])[1 + n % 3], (n * 7717 % 10000000) / 100.0,
  DATE '2015-01-01' + n % 3650
FROM generate_series(1, 30000) AS n;

CREATE TABLE cards (
  id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, card_number text NOT NULL,
  expires_on date NOT NULL, is_blocked boolean NOT NULL);
INSERT INTO cards
SELECT n, 1 + n % 20000, luhn_complete('400000' || lpad((n::bigint * 104729 % 1000000000)::text, 9, '0')),
  DATE '2027-01-31' + n % 1500, n % 97 = 0
FROM generate_series(1, 25000) AS n;

CREATE TABLE transfers (
  id bigint PRIMARY KEY, from_account int NOT NULL, to_account int NOT NULL, amount numeric(12,2) NOT NULL,
  memo text NOT NULL, made_at timestamptz NOT NULL);
INSERT INTO transfers
SELECT n, 1 + n % 30000, 1 + (n * 31) % 30000, (1 + n * 7919 % 500000) / 100.0,
  (ARRAY['rent','payroll','invoice','groceries','refund'])[1 + n % 5] || ' ' || n,
  TIMESTAMPTZ '2026-01-01 00:00:00+00' + n * INTERVAL '5 minutes'
FROM generate_series(1, 60000) AS n;
CREATE INDEX ON transfers (from_account);

-- A place where agents may write.
CREATE TABLE case_notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, marker int, body text NOT NULL);
RESET ROLE;
ANALYZE;
CHECKPOINT;
";
