-- What was refused, to whom and by which rule
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT actor_user, agent_id, rule_id, count(*) AS refused, count(DISTINCT session_id) AS sessions, max(ts) AS last_at
FROM events
WHERE dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE) AND decision = 'deny'
GROUP BY actor_user, agent_id, rule_id
ORDER BY refused DESC, actor_user NULLS LAST, agent_id, rule_id NULLS LAST
