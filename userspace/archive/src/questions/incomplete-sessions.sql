-- Sessions whose commands are not all there, or whose end is not
-- expects: no rows
SELECT s.session_id, s.events_declared, count(e.seq) AS present, s.close_reason
FROM sessions s LEFT JOIN events e ON e.session_id = s.session_id
GROUP BY s.session_id, s.events_declared, s.close_reason
HAVING count(e.seq) <> s.events_declared OR s.close_reason IS NULL
ORDER BY s.session_id
