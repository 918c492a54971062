CREATE OR REPLACE VIEW heartbeats AS SELECT *,
  date_sub('second', lag(ts) OVER (PARTITION BY node_id, log_epoch ORDER BY seq), ts) AS gap_s
FROM control WHERE kind = 'heartbeat';
CREATE OR REPLACE VIEW masked_values AS SELECT * EXCLUDE (m), m.entity AS entity, m."count" AS masked_values
FROM (SELECT *, unnest(masked) AS m FROM events WHERE masked_count > 0);
CREATE OR REPLACE VIEW blind_values AS SELECT * FROM (SELECT *, unnest(blind_tokens) AS token FROM events);
