-- Commands that were decided by policies of which no text is recorded
-- expects: no rows
SELECT e.node_id, e.policy_digest, count(*) AS commands, min(e.ts) AS first_ts, max(e.ts) AS last_ts
FROM events e LEFT JOIN (SELECT DISTINCT new_digest FROM control WHERE kind = 'policy.text') p
  ON p.new_digest = e.policy_digest
WHERE p.new_digest IS NULL
GROUP BY e.node_id, e.policy_digest
ORDER BY e.node_id, first_ts, e.policy_digest
