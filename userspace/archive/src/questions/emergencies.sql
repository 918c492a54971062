-- Commands that one person let through alone in an emergency
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT ts, approval_id, approver_id, actor_user, agent_id, target_host, statement_norm, rows, status
FROM events
WHERE dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE) AND decision = 'break_glass'
ORDER BY ts, node_id, seq
