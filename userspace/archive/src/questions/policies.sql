-- Which policies were in force from when on, and whether they were others than before
SELECT ts, node_id, new_digest, old_digest, old_digest IS DISTINCT FROM new_digest AS is_changed, detail
FROM control
WHERE kind = 'policy.loaded'
ORDER BY ts, node_id, seq
