-- Sessions of people whose login is not known to have had more than one factor
SELECT session_id, opened_at, actor_user, agent_id, authn_method, authn_amr
FROM sessions
WHERE NOT coalesce(authn_mfa, false)
ORDER BY opened_at, session_id
