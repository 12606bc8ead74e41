-- How many route announcements and withdrawals do two collectors see together, minute by minute?
--
-- UNION ALL merges two streams; a window closes when both have passed its end.
CREATE STREAM IF NOT EXISTS tokyo (
    ts BIGINT NOT NULL, collector TEXT, peer_ip TEXT, peer_asn BIGINT, kind TEXT, prefix TEXT, as_path TEXT,
    WATERMARK FOR ts AS ts                            -- logical time: Unix seconds
);
CREATE STREAM IF NOT EXISTS johannesburg (
    ts BIGINT NOT NULL, collector TEXT, peer_ip TEXT, peer_asn BIGINT, kind TEXT, prefix TEXT, as_path TEXT,
    WATERMARK FOR ts AS ts                            -- logical time: Unix seconds
);

CREATE CONTINUOUS QUERY updates AS
    SELECT ts, collector, kind, prefix FROM tokyo
    UNION ALL
    SELECT ts, collector, kind, prefix FROM johannesburg;

CREATE CONTINUOUS QUERY updates_per_minute AS
    SELECT window_start AS minute, count(*) AS messages,
        count(*) FILTER (WHERE kind = 'W') AS withdrawn,
        count(*) FILTER (WHERE collector = 'rrc06') AS at_tokyo
    FROM TUMBLE(updates, ts, 60)
    GROUP BY window_start, window_end;

\feed tokyo queries/data/bgp_rrc06.csv.gz
\feed johannesburg queries/data/bgp_route-views.jinx.csv.gz
PUNCTUATE tokyo WHERE ts < 1427850000;
PUNCTUATE johannesburg WHERE ts < 1427850000;
FLUSH;
SELECT minute, messages, withdrawn, at_tokyo FROM updates_per_minute ORDER BY minute LIMIT 6;

-- Answer:
-- | minute | messages | withdrawn | at_tokyo |
-- | 1427846400 | 498 | 19 | 381 |
-- | 1427846460 | 383 | 26 | 223 |
-- | 1427846520 | 315 | 45 | 200 |
-- | 1427846580 | 582 | 33 | 356 |
-- | 1427846640 | 760 | 123 | 397 |
-- | 1427846700 | 123 | 15 | 0 |
