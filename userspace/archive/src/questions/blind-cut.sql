-- Which commands named more values of tagged columns than have blind tokens: long lists, COPY, values not understood
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT ts, session_id, session_seq, actor_user, agent_id, target_name, target_db, verb, statement_norm, decision, status
FROM blind_values
WHERE dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE) AND token = '+'
ORDER BY ts, session_id, session_seq
