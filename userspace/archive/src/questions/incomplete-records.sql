-- Commands whose record does not say who, what, when, whether it succeeded, from where or on what
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
-- expects: no rows
SELECT node_id, log_epoch, seq, ts, agent_id, session_id, kind, verb, decision, status, src_ip, dst_ip, target_name
FROM events
WHERE dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE)
  AND (agent_id = '' OR session_id = '' OR kind = '' OR verb = '' OR decision = '' OR status = '' OR policy_digest = ''
    OR target_name = '' OR protocol = '' OR src_ip IS NULL OR src_port IS NULL OR dst_ip IS NULL OR dst_port IS NULL)
ORDER BY node_id, log_epoch, seq
