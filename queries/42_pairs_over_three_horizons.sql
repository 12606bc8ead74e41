-- Which pairs of origin and route did one collector announce and the other not, during the last minute, two minutes, five
-- minutes, looked at every minute?
--
-- HOP with several sizes keeps one set of slices for all of them: each row is counted once, and the state is that of the
-- longest window.
CREATE STREAM IF NOT EXISTS tokyo (
    ts BIGINT NOT NULL, collector TEXT, kind TEXT, prefix TEXT, origin_as TEXT,
    WATERMARK FOR ts AS ts                            -- logical time: Unix seconds
);
CREATE STREAM IF NOT EXISTS johannesburg (
    ts BIGINT NOT NULL, collector TEXT, kind TEXT, prefix TEXT, origin_as TEXT,
    WATERMARK FOR ts AS ts                            -- logical time: Unix seconds
);

CREATE CONTINUOUS QUERY announced AS
    SELECT ts, collector, origin_as, prefix FROM tokyo WHERE kind = 'A'
    UNION ALL
    SELECT ts, collector, origin_as, prefix FROM johannesburg WHERE kind = 'A';

CREATE CONTINUOUS QUERY one_sided AS
    SELECT window_start, window_end, count(*) AS updates,
        count_distinct_except(struct(origin_as, prefix), collector = 'rrc06', collector <> 'rrc06') AS tokyo_only,
        count_distinct_except(struct(origin_as, prefix), collector <> 'rrc06', collector = 'rrc06') AS johannesburg_only
    FROM HOP(announced, ts, 60, 60, 120, 300) GROUP BY window_start, window_end;

\feed tokyo queries/data/bgp_rrc06.csv.gz
\feed johannesburg queries/data/bgp_route-views.jinx.csv.gz
PUNCTUATE tokyo WHERE ts < 1427850000;
PUNCTUATE johannesburg WHERE ts < 1427850000;
FLUSH;
SELECT (window_end - 1427846400) / 60 AS at_minute, (window_end - window_start) / 60 AS minutes, updates,
    tokyo_only['estimate'] AS tokyo_only, johannesburg_only['estimate'] AS johannesburg_only, tokyo_only['exact'] AS exact
FROM one_sided WHERE window_end IN (1427846640, 1427846700) ORDER BY 1, 2;

-- Answer:
-- | at_minute | minutes | updates | tokyo_only | johannesburg_only | exact |
-- | 4 | 1 | 549 | 89 | 100 | t |
-- | 4 | 2 | 819 | 112 | 101 | t |
-- | 4 | 5 | 1655 | 215 | 132 | t |
-- | 5 | 1 | 637 | 37 | 58 | t |
-- | 5 | 2 | 1186 | 47 | 104 | t |
-- | 5 | 5 | 2292 | 168 | 133 | t |
