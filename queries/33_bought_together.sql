-- Who buys one thing, what else is in the same basket, in at least two of three?
--
-- ASSOCIATION_RULES counts sets of items of each basket. 2,025 baskets are few, so the counts are exact.
CREATE STREAM IF NOT EXISTS baskets (
    invoice TEXT NOT NULL, at TIMESTAMP, items TEXT[],
    WATERMARK FOR at AS at
);

CREATE CONTINUOUS QUERY bought_together AS
    SELECT antecedent[1] AS has, consequent[1] AS takes, support_lower, confidence_lower, confidence_upper, lift
    FROM ASSOCIATION_RULES(baskets, ITEMS => items, SUPPORT => 0.02, MAX_SIZE => 2,
        CONFIDENCE => 0.7);

\feed baskets queries/data/retail_baskets.ndjson.gz
FLUSH;
SELECT has, takes, round(support_lower * 2025) AS baskets, round(confidence_lower, 4) AS confidence, round(lift, 2) AS lift,
    confidence_lower = confidence_upper AS exact
FROM bought_together ORDER BY confidence DESC, has;

-- Answer:
-- | has | takes | baskets | confidence | lift | exact |
-- | 22729 | 22726 | 49 | 0.8596 | 17.07 | t |
-- | 22198 | 22197 | 60 | 0.8333 | 13.39 | t |
-- | 21231 | 21232 | 52 | 0.8125 | 19.82 | t |
-- | 22746 | 22745 | 43 | 0.8113 | 25.28 | t |
-- | 22746 | 22748 | 42 | 0.7925 | 23.6 | t |
-- | 22745 | 22748 | 50 | 0.7692 | 22.91 | t |
-- | 22727 | 22726 | 68 | 0.764 | 15.17 | t |
-- | 21977 | 21212 | 45 | 0.75 | 15.19 | t |
-- | 22748 | 22745 | 50 | 0.7353 | 22.91 | t |
-- | 22699 | 22697 | 49 | 0.7206 | 20.85 | t |
-- | 22729 | 22727 | 41 | 0.7193 | 16.37 | t |
-- | 22728 | 22726 | 51 | 0.7083 | 14.06 | t |
-- | 22835 | 22112 | 75 | 0.7009 | 9.59 | t |
-- | 22697 | 22699 | 49 | 0.7 | 20.85 | t |
