-- What was copied to a store and when, under which lock, and what kept it from that
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT ts, node_id, kind, detail
FROM control
WHERE kind IN ('ship.shipped', 'ship.failed', 'ship.resumed', 'ship.conflict')
  AND dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE)
ORDER BY ts, node_id, seq
