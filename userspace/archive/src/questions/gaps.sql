-- Places in a node's log that have no row; `vestibule verify` is the proof, this is its cross-check
-- expects: no rows
SELECT node_id, log_epoch, seq AS gap_after, next_seq
FROM (
  SELECT node_id, log_epoch, seq, lead(seq) OVER (PARTITION BY node_id, log_epoch ORDER BY seq) AS next_seq
  FROM (
    SELECT node_id, log_epoch, seq FROM events
    UNION ALL SELECT node_id, log_epoch, seq FROM sessions
    UNION ALL SELECT node_id, log_epoch, seq FROM control
    UNION ALL SELECT node_id, log_epoch, seq FROM recordings
  ) places
) pairs
WHERE next_seq <> seq + 1
ORDER BY node_id, log_epoch, gap_after
