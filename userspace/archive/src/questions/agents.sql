-- Which agents there are, whom they act for, who answers for them, and what they reach
SELECT agent_id, actor_user, agent_owner, target_name, count(*) AS sessions, min(opened_at) AS first_at,
  max(opened_at) AS last_at
FROM sessions
GROUP BY agent_id, actor_user, agent_owner, target_name
ORDER BY agent_id, actor_user NULLS LAST, agent_owner NULLS LAST, target_name
