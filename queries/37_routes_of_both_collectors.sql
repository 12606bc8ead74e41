-- Which routes did both collectors announce, over one to five minutes; which did one of them announce and withdraw, which
-- are gone at both, which stayed?
--
-- count_distinct_where takes any expression of conditions that a route ever met; CUMULATE has all horizons from one set
-- of slices. So few routes are counted exactly.
CREATE STREAM IF NOT EXISTS tokyo (
    ts BIGINT NOT NULL, collector TEXT, peer_ip TEXT, peer_asn BIGINT, kind TEXT, prefix TEXT, as_path TEXT,
    WATERMARK FOR ts AS ts                            -- logical time: Unix seconds
);
CREATE STREAM IF NOT EXISTS johannesburg (
    ts BIGINT NOT NULL, collector TEXT, peer_ip TEXT, peer_asn BIGINT, kind TEXT, prefix TEXT, as_path TEXT,
    WATERMARK FOR ts AS ts                            -- logical time: Unix seconds
);

CREATE CONTINUOUS QUERY spoken_of AS
    SELECT ts, prefix, collector = 'rrc06' AS at_tokyo, kind = 'A' AS announced FROM tokyo
    UNION ALL
    SELECT ts, prefix, collector = 'rrc06', kind = 'A' FROM johannesburg;

CREATE CONTINUOUS QUERY routes AS
    SELECT window_start, window_end,
        count_distinct_where(prefix, ever(announced AND at_tokyo) AND ever(announced AND NOT at_tokyo)) AS at_both,
        count_distinct_where(prefix, ever(announced AND at_tokyo) AND ever(NOT announced AND at_tokyo)
            OR ever(announced AND NOT at_tokyo) AND ever(NOT announced AND NOT at_tokyo)) AS flapped,
        count_distinct_where(prefix, NOT ever(announced)) AS gone,
        count_distinct_where(prefix, NOT ever(NOT announced)) AS stayed
    FROM CUMULATE(spoken_of, ts, 60, 300) GROUP BY window_start, window_end;

\feed tokyo queries/data/bgp_rrc06.csv.gz
\feed johannesburg queries/data/bgp_route-views.jinx.csv.gz
PUNCTUATE tokyo WHERE ts < 1427850000;
PUNCTUATE johannesburg WHERE ts < 1427850000;
FLUSH;
SELECT (window_end - window_start) / 60 AS minutes, at_both['estimate'] AS at_both, flapped['estimate'] AS flapped,
    gone['estimate'] AS gone, stayed['estimate'] AS stayed, at_both['exact'] AS exact
FROM routes WHERE window_start = 1427846400 ORDER BY minutes;

-- Answer:
-- | minutes | at_both | flapped | gone | stayed | exact |
-- | 1 | 61 | 4 | 8 | 251 | t |
-- | 2 | 127 | 21 | 8 | 302 | t |
-- | 3 | 145 | 42 | 8 | 304 | t |
-- | 4 | 216 | 56 | 8 | 505 | t |
-- | 5 | 326 | 99 | 9 | 526 | t |
