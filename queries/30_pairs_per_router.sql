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
        ITEM => (peer_asn, prefix), BY => collector, SUPPORT => 0.003, ERROR => 0.001);

\feed tokyo queries/data/bgp_rrc06.csv.gz
\feed johannesburg queries/data/bgp_route-views.jinx.csv.gz
FLUSH;
SELECT p.collector, p.peer_asn, p.prefix, p.count_lower, p.count_upper, p.guaranteed, p.group_rows, e.exact
FROM (SELECT *, row_number() OVER (PARTITION BY collector ORDER BY count_lower DESC, prefix) AS place
      FROM pairs_per_router) p JOIN (
    SELECT collector, peer_asn, prefix, count(*) AS exact FROM tokyo GROUP BY collector, peer_asn, prefix
    UNION ALL SELECT collector, peer_asn, prefix, count(*) FROM johannesburg GROUP BY collector, peer_asn, prefix
) e ON e.collector = p.collector AND e.peer_asn = p.peer_asn AND e.prefix = p.prefix
WHERE p.place <= 5 ORDER BY p.collector, p.place;

-- Answer:
-- | collector | peer_asn | prefix | count_lower | count_upper | guaranteed | group_rows | exact |
-- | route-views.jinx | 30844 | 69.194.4.0/24 | 29 | 29 | t | 8611 | 29 |
-- | route-views.jinx | 30844 | 199.38.164.0/23 | 28 | 28 | t | 8611 | 28 |
-- | route-views.jinx | 30844 | 177.10.158.0/24 | 27 | 27 | t | 8611 | 27 |
-- | route-views.jinx | 30844 | 202.70.88.0/21 | 27 | 27 | t | 8611 | 27 |
-- | route-views.jinx | 30844 | 208.73.244.0/22 | 27 | 27 | t | 8611 | 27 |
-- | rrc06 | 25152 | 2620:110:9000::/44 | 37 | 37 | t | 1557 | 37 |
-- | rrc06 | 25152 | 2a00:bdc0:e004::/48 | 36 | 36 | t | 1557 | 36 |
-- | rrc06 | 25152 | 2402:ef23:a::/48 | 30 | 30 | t | 1557 | 30 |
-- | rrc06 | 25152 | 2a00:bdc0:e003::/48 | 20 | 21 | t | 1557 | 20 |
-- | rrc06 | 25152 | 2620:110:9004::/48 | 19 | 19 | t | 1557 | 19 |
