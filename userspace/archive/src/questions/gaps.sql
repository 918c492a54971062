-- Places in a node's log that have no row; `vestibule verify` is the proof, this is its cross-check
-- expects: no rows
WITH places AS (
  SELECT node_id, log_epoch, seq, seq - seq % 65536 AS run, seq % 65536 AS place FROM events
  UNION ALL SELECT node_id, log_epoch, seq, seq - seq % 65536, seq % 65536 FROM sessions
  UNION ALL SELECT node_id, log_epoch, seq, seq - seq % 65536, seq % 65536 FROM control
  UNION ALL SELECT node_id, log_epoch, seq, seq - seq % 65536, seq % 65536 FROM recordings
),
runs AS (
  SELECT node_id, log_epoch, run, count(*) AS places, sum(place) AS total, sum(place * place) AS squares,
    min(place) AS lo, max(place) AS hi, min(seq) AS first_seq, max(seq) AS last_seq
  FROM places GROUP BY node_id, log_epoch, run
),
broken AS (
  SELECT node_id, log_epoch, run FROM runs
  WHERE places <> hi - lo + 1 OR 2 * total <> (lo + hi) * places
    OR 6 * squares <> hi * (hi + 1) * (2 * hi + 1) - (lo - 1) * lo * (2 * lo - 1)
)
SELECT node_id, log_epoch, seq AS gap_after, next_seq
FROM (
  SELECT node_id, log_epoch, last_seq AS seq,
    lead(first_seq) OVER (PARTITION BY node_id, log_epoch ORDER BY run) AS next_seq
  FROM runs
  UNION ALL
  SELECT p.node_id, p.log_epoch, p.seq,
    lead(p.seq) OVER (PARTITION BY p.node_id, p.log_epoch, p.run ORDER BY p.seq) AS next_seq
  FROM places p JOIN broken b ON p.node_id = b.node_id AND p.log_epoch = b.log_epoch AND p.run = b.run
) pairs
WHERE next_seq <> seq + 1
ORDER BY node_id, log_epoch, gap_after
