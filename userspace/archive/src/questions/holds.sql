-- Legal holds: what was set, whose release was asked for, and what was released
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT ts, node_id, kind, detail
FROM control
WHERE kind IN ('hold.set', 'hold.release_asked', 'hold.released', 'ship.held', 'ship.hold_released')
  AND dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE)
ORDER BY ts, node_id, seq
