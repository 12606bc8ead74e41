-- Who wrote at least a fiftieth of what was added to Wikipedia in the past six hours, looked at every hour?
--
-- The weight of an edit is its number of characters. Sticky sampling holds some ten thousand authors per hour at most,
-- however many write; the last columns compare its bounds with the exact sum, asked once.
CREATE STREAM IF NOT EXISTS wiki_edits (
    time TIMESTAMP NOT NULL, channel TEXT, page TEXT, "user" TEXT, namespace TEXT,
    "isRobot" BOOLEAN, "isAnonymous" BOOLEAN, delta BIGINT, added BIGINT, deleted BIGINT,
    WATERMARK FOR time AS time - INTERVAL '1 second'
);

CREATE CONTINUOUS QUERY who_writes_most AS
    SELECT window_end, "user", count_lower, count_upper, group_rows
    FROM HEAVY_HITTERS(HOP(wiki_edits, time, INTERVAL '1 hour', INTERVAL '6 hours'), ITEM => "user", WEIGHT => added,
        SUPPORT => 0.02, ALGORITHM => 'sticky_sampling', FAILURE => 0.001);

\feed wiki_edits queries/data/wiki_edits.ndjson.gz
PUNCTUATE wiki_edits WHERE time < TIMESTAMP '2015-09-13';
FLUSH;
SELECT w."user", e.exact, w.group_rows, w.count_lower <= e.exact AS above_lower, e.exact <= w.count_upper AS below_upper
FROM who_writes_most w JOIN (
    SELECT window_end, "user", sum(added) AS exact
    FROM HOP(wiki_edits, time, INTERVAL '1 hour', INTERVAL '6 hours') GROUP BY window_start, window_end, "user"
) e ON e.window_end = w.window_end AND e."user" = w."user"
WHERE w.window_end = TIMESTAMP '2015-09-12 12:00:00' ORDER BY e.exact DESC;

-- Answer:
-- | user | exact | group_rows | above_lower | below_upper |
-- | Bottuzzu | 394490 | 2646833 | t | t |
-- | QuackGuru | 200925 | 2646833 | t | t |
-- | Atobot | 110283 | 2646833 | t | t |
-- | Well-Informed Optimist | 93299 | 2646833 | t | t |
-- | سامي الرحيلي | 73637 | 2646833 | t | t |
