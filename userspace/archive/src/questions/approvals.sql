-- Every command that people let through: who asked, who approved, what ran, how long it waited
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT ts, approval_id, decision, approver_id, approval_ts, held_us, actor_user, agent_id, target_host, statement_norm,
  rows, status, rule_id, policy_digest
FROM events
WHERE dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE) AND decision IN ('approved', 'break_glass')
ORDER BY ts, node_id, seq
