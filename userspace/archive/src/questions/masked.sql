-- Which classes of data were masked, where, and for how many people
-- from (0001-01-01): the first day, UTC
-- to (9999-12-31): the last day
SELECT target_host, entity, sum(masked_values) AS masked_values, count(DISTINCT actor_user) AS people
FROM masked_values
WHERE dt BETWEEN CAST(:from AS DATE) AND CAST(:to AS DATE)
GROUP BY target_host, entity
ORDER BY masked_values DESC, target_host NULLS LAST, entity
