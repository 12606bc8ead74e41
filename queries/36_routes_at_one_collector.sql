-- Which routes does one collector announce and the other not, in the last minute, two minutes, … five?
--
-- CUMULATE has all horizons from one set of slices; count_distinct_except keeps two small summaries in each.
CREATE STREAM IF NOT EXISTS tokyo (
    ts BIGINT NOT NULL, collector TEXT, peer_ip TEXT, peer_asn BIGINT, kind TEXT, prefix TEXT, as_path TEXT,
    WATERMARK FOR ts AS ts                            -- logical time: Unix seconds
);
CREATE STREAM IF NOT EXISTS johannesburg (
    ts BIGINT NOT NULL, collector TEXT, peer_ip TEXT, peer_asn BIGINT, kind TEXT, prefix TEXT, as_path TEXT,
    WATERMARK FOR ts AS ts                            -- logical time: Unix seconds
);

CREATE CONTINUOUS QUERY announced AS
    SELECT ts, collector, prefix FROM tokyo WHERE kind = 'A'
    UNION ALL
    SELECT ts, collector, prefix FROM johannesburg WHERE kind = 'A';

CREATE CONTINUOUS QUERY one_sided AS
    SELECT window_start, window_end,
        approx_count_distinct_bounds(prefix) AS routes,
        count_distinct_except(prefix, collector = 'rrc06', collector <> 'rrc06') AS tokyo_only,
        count_distinct_except(prefix, collector <> 'rrc06', collector = 'rrc06') AS johannesburg_only
    FROM CUMULATE(announced, ts, 60, 300) GROUP BY window_start, window_end;

\feed tokyo queries/data/bgp_rrc06.csv.gz
\feed johannesburg queries/data/bgp_route-views.jinx.csv.gz
PUNCTUATE tokyo WHERE ts < 1427850000;
PUNCTUATE johannesburg WHERE ts < 1427850000;
FLUSH;
SELECT (window_end - window_start) / 60 AS minutes, tokyo_only['estimate'] AS tokyo_only,
    johannesburg_only['estimate'] AS johannesburg_only, tokyo_only['exact'] AS exact
FROM one_sided WHERE window_start = 1427846400 ORDER BY minutes;

-- Answer:
-- | minutes | tokyo_only | johannesburg_only | exact |
-- | 1 | 145 | 49 | t |
-- | 2 | 146 | 50 | t |
-- | 3 | 150 | 51 | t |
-- | 4 | 213 | 132 | t |
-- | 5 | 166 | 133 | t |
