-- How long are routes gone, from their withdrawal to their next announcement by the same neighbour?
--
-- As with calls, of which a stream has the beginnings and the ends: each end is paired with its beginning.
CREATE STREAM IF NOT EXISTS tokyo (
    ts BIGINT NOT NULL, collector TEXT, peer_ip TEXT, peer_asn BIGINT, kind TEXT, prefix TEXT, as_path TEXT,
    WATERMARK FOR ts AS ts                            -- logical time: Unix seconds
);

CREATE CONTINUOUS QUERY outages AS
    SELECT peer_ip, prefix, gone_at, ts - gone_at AS seconds FROM (
        SELECT peer_ip, prefix, kind, ts, lag(kind) OVER route AS before, lag(ts) OVER route AS gone_at
        FROM tokyo
        WINDOW route AS (PARTITION BY peer_ip, prefix ORDER BY ts))
    WHERE kind = 'A' AND before = 'W';
CREATE CONTINUOUS QUERY outages_of_a_neighbour AS
    SELECT peer_ip, count(*) AS outages, sum(seconds) AS seconds, max(seconds) AS longest,
        count(*) FILTER (WHERE seconds >= 60) AS of_a_minute
    FROM outages GROUP BY peer_ip;

\feed tokyo queries/data/bgp_rrc06.csv.gz
PUNCTUATE tokyo WHERE ts < 1427850000;
FLUSH;
SELECT peer_ip, outages, seconds, longest, of_a_minute FROM outages_of_a_neighbour ORDER BY peer_ip;

-- Answer:
-- | peer_ip | outages | seconds | longest | of_a_minute |
-- | 2001:200:0:fe00::6249:0 | 11 | 251 | 99 | 1 |
-- | 202.249.2.185 | 59 | 1921 | 107 | 15 |
