-- Who touched an object, how, and whether they were let
-- object: a table or another object as statements name it, such as customers or public.customers
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT actor_user, agent_id, verb, decision, count(*) AS commands, sum(rows) AS row_count,
  min(ts) AS first_at, max(ts) AS last_at
FROM events
WHERE dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE) AND array_position(objects, :object) > 0
GROUP BY actor_user, agent_id, verb, decision
ORDER BY commands DESC, actor_user NULLS LAST, agent_id, verb, decision
