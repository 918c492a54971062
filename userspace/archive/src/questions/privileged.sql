-- Privileged commands of programs, and whom they acted for
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT agent_id, actor_user, agent_owner, verb, target_host, decision, count(*) AS commands, max(ts) AS last_at
FROM events
WHERE dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE) AND is_privileged
GROUP BY agent_id, actor_user, agent_owner, verb, target_host, decision
ORDER BY commands DESC, agent_id, actor_user NULLS LAST, agent_owner NULLS LAST, verb, target_host NULLS LAST, decision
