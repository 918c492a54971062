-- The twenty largest answers
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT ts, bytes_out, rows, actor_user, agent_id, target_name, statement_norm, session_id
FROM events
WHERE dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE)
ORDER BY bytes_out DESC NULLS LAST, ts, node_id, seq LIMIT 20
