CREATE OR REPLACE VIEW heartbeats AS SELECT *,
  date_diff('second', lag(ts) OVER (PARTITION BY node_id, log_epoch ORDER BY seq), ts) AS gap_s
FROM control WHERE kind = 'heartbeat';
CREATE OR REPLACE VIEW masked_values AS SELECT events.*, m.entity, m.masked_values
FROM events CROSS JOIN UNNEST(masked) AS m (entity, masked_values) WHERE masked_count > 0;
CREATE OR REPLACE VIEW blind_values AS SELECT events.*, b.token
FROM events CROSS JOIN UNNEST(blind_tokens) AS b (token);
