-- What was done in one person's name, by which agents, where
-- user: the person, as in actor_user
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT agent_id, target_name, target_host, verb, decision, count(*) AS commands, sum(rows) AS row_count,
  min(ts) AS first_at, max(ts) AS last_at
FROM events
WHERE dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE) AND actor_user = :user
GROUP BY agent_id, target_name, target_host, verb, decision
ORDER BY commands DESC, agent_id, target_name, target_host NULLS LAST, verb, decision
