-- Commands that somebody approved for themselves, or that nobody is named to have approved
-- expects: no rows
SELECT approval_id, ts, actor_user, agent_id, agent_owner, approver_id
FROM events
WHERE decision IN ('approved', 'break_glass')
  AND (approver_id IS NULL OR approver_id = actor_user OR approver_id = agent_owner
    OR approver_id = concat(actor_sub, '@', actor_idp))
ORDER BY ts, node_id, seq
