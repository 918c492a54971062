-- Who named a value of a tagged column, by the value's blind tokens, which `vestibule archive blind` makes of it
-- token: the token, or those under each key with blanks between them
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT DISTINCT ts, session_id, session_seq, actor_user, agent_id, target_name, target_db, verb, statement_norm, decision,
  status, rows
FROM blind_values
WHERE dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE) AND token <> '+' AND :token LIKE concat('%', token, '%')
ORDER BY ts, session_id, session_seq
