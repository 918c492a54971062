-- What the policies with a digest said, file by file
-- digest: as in policy_digest of a command
SELECT node_id, detail
FROM control
WHERE kind = 'policy.text' AND new_digest = :digest
ORDER BY node_id, seq
