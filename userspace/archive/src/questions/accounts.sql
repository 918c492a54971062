-- Which accounts were used at which targets, by whom, and whether the agent held the password
SELECT target_name, target_account, credential_ref, credential_injected, agent_id, count(*) AS sessions,
  sum(events_declared) AS commands, max(opened_at) AS last_at
FROM sessions
GROUP BY target_name, target_account, credential_ref, credential_injected, agent_id
ORDER BY target_name, target_account NULLS LAST, agent_id, credential_ref NULLS LAST, credential_injected NULLS LAST
