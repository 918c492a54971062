-- One session from its first command to its last
-- session: the session's id
SELECT session_seq, ts, verb, statement_norm, decision, rule_id, approval_id, rows, masked_count, duration_us,
  status, error_code
FROM events WHERE session_id = :session
ORDER BY session_seq
