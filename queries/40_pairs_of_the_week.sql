-- Which two things were bought together most often in the past seven days, looked at every day?
--
-- FREQUENT_ITEMSETS over a sliding window: each basket is counted once, in the summary of its day.
CREATE STREAM IF NOT EXISTS baskets (
    invoice TEXT NOT NULL, at TIMESTAMP, items TEXT[],
    WATERMARK FOR at AS at
);

CREATE CONTINUOUS QUERY pairs_of_the_week AS
    SELECT window_end, items, count_lower, count_upper, group_rows
    FROM FREQUENT_ITEMSETS(HOP(baskets, at, INTERVAL '1 day', INTERVAL '7 days'), ITEMS => items, SUPPORT => 0.044,
        MAX_SIZE => 2)
    WHERE size = 2;

\feed baskets queries/data/retail_baskets.ndjson.gz
FLUSH;
SELECT window_end::DATE AS until, items[1] AS one, items[2] AS other, count_lower, count_upper, group_rows AS baskets
FROM pairs_of_the_week
WHERE window_end IN (TIMESTAMP '2010-12-10', TIMESTAMP '2010-12-15', TIMESTAMP '2010-12-23')
ORDER BY until, count_lower DESC, one, other;

-- Answer:
-- | until | one | other | count_lower | count_upper | baskets |
-- | 2010-12-10 | 22086 | 22910 | 41 | 41 | 778 |
-- | 2010-12-10 | 22834 | 22867 | 35 | 35 | 778 |
-- | 2010-12-10 | 22865 | 22867 | 35 | 35 | 778 |
-- | 2010-12-10 | 22866 | 22867 | 35 | 35 | 778 |
-- | 2010-12-15 | 22111 | 22112 | 32 | 32 | 701 |
-- | 2010-12-15 | 22086 | 22910 | 31 | 31 | 701 |
-- | 2010-12-23 | 22112 | 22835 | 20 | 20 | 431 |
-- | 2010-12-23 | 22720 | 22722 | 19 | 19 | 431 |
