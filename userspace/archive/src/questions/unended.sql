-- Commands of which it is not known how they ended
SELECT ts, session_id, session_seq, actor_user, agent_id, target_name, verb, statement_norm, status
FROM events
WHERE status IN ('interrupted', 'unknown') OR (decision <> 'deny' AND end_ts IS NULL)
ORDER BY ts, node_id, seq
