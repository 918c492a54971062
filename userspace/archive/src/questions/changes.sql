-- What changed on the nodes: policies, keys, holds, agents, starts and stops; and who read the archive
SELECT ts, node_id, kind, subject, ticket, old_digest, new_digest, detail
FROM control
WHERE kind <> 'heartbeat'
ORDER BY ts, node_id, seq
