-- What was disposed of or shredded, by whom and by which rule, and what was refused because it is held
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT ts, node_id, kind, detail
FROM control
WHERE kind IN ('archive.disposed', 'archive.dispose_refused', 'archive.refused', 'recording.shredded', 'recording.shred_refused')
  AND dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE)
ORDER BY ts, node_id, seq
