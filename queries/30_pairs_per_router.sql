-- Which pairs of neighbour and prefix does each router speak of most, and how far off may the counts be?
--
-- Lossy counting holds a few hundred pairs per router, however many there are; each answer says between
-- which bounds its count lies. The last column is the exact count, asked once.
CREATE STREAM IF NOT EXISTS tokyo (
    ts BIGINT NOT NULL, collector TEXT, peer_ip TEXT, peer_asn BIGINT, kind TEXT, prefix TEXT, as_path TEXT,
    WATERMARK FOR ts AS ts                            -- logical time: Unix seconds
);
CREATE STREAM IF NOT EXISTS johannesburg (
    ts BIGINT NOT NULL, collector TEXT, peer_ip TEXT, peer_asn BIGINT, kind TEXT, prefix TEXT, as_path TEXT,
    WATERMARK FOR ts AS ts                            -- logical time: Unix seconds
);

CREATE CONTINUOUS QUERY pairs_per_router AS
    SELECT collector, peer_asn, prefix, count_lower, count_upper, guaranteed, group_rows
    FROM HEAVY_HITTERS((SELECT collector, peer_asn, prefix FROM tokyo
                        UNION ALL SELECT collector, peer_asn, prefix FROM johannesburg),
        ITEM => (peer_asn, prefix), BY => collector, SUPPORT => 0.01, ERROR => 0.002);

\feed tokyo queries/data/bgp_rrc06.csv.gz
\feed johannesburg queries/data/bgp_route-views.jinx.csv.gz
FLUSH;
SELECT p.collector, p.peer_asn, p.prefix, p.count_lower, p.count_upper, p.guaranteed, p.group_rows, e.exact
FROM pairs_per_router p JOIN (
    SELECT collector, peer_asn, prefix, count(*) AS exact FROM tokyo GROUP BY collector, peer_asn, prefix
    UNION ALL SELECT collector, peer_asn, prefix, count(*) FROM johannesburg GROUP BY collector, peer_asn, prefix
) e ON e.collector = p.collector AND e.peer_asn = p.peer_asn AND e.prefix = p.prefix
ORDER BY p.collector, p.count_lower DESC, p.peer_asn, p.prefix LIMIT 20;

-- Answer:
-- | collector | peer_asn | prefix | count_lower | count_upper | guaranteed | group_rows | exact |
