-- How long files are kept of each class, from when on
SELECT ts, node_id, detail
FROM control
WHERE kind = 'archive.retention'
ORDER BY ts, node_id, seq
