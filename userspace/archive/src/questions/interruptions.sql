-- When recording paused for more than a minute and a half, something went past, records of the kernel were lost or the
-- clock was not kept
-- expects: no rows
SELECT node_id, ts, gap_s, flows_bypassed, ring_drops, clock_state
FROM heartbeats
WHERE gap_s > 90 OR flows_bypassed > 0 OR ring_drops > 0 OR clock_state <> 'synced'
ORDER BY ts, node_id, seq
