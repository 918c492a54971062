CREATE OR REPLACE TEMPORARY VIEW heartbeats AS SELECT *,
  timestampdiff(SECOND, lag(ts) OVER (PARTITION BY node_id, log_epoch ORDER BY seq), ts) AS gap_s
FROM control WHERE kind = 'heartbeat';
CREATE OR REPLACE TEMPORARY VIEW masked_values AS SELECT events.*, m.entity AS entity, m.`count` AS masked_values
FROM events LATERAL VIEW explode(masked) exploded AS m WHERE masked_count > 0;
CREATE OR REPLACE TEMPORARY VIEW blind_values AS SELECT events.*, token
FROM events LATERAL VIEW explode(blind_tokens) exploded AS token;
