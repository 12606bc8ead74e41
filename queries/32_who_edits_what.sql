-- Who turns to what most often: which pairs of author and channel make up a fiftieth of an hour's edits?
--
-- As with calls: an item is a pair of columns, here author and channel. The bounds stand beside the exact count
-- of the same hour, the busiest author's first.
CREATE STREAM IF NOT EXISTS wiki_edits (
    time TIMESTAMP NOT NULL, channel TEXT, page TEXT, "user" TEXT, namespace TEXT,
    "isRobot" BOOLEAN, "isAnonymous" BOOLEAN, delta BIGINT, added BIGINT, deleted BIGINT,
    WATERMARK FOR time AS time - INTERVAL '1 second'
);

CREATE CONTINUOUS QUERY who_edits_what AS
    SELECT window_start, "user", channel, count_lower, count_upper, group_rows
    FROM HEAVY_HITTERS(TUMBLE(wiki_edits, time, INTERVAL '1 hour'), ITEM => ("user", channel),
        SUPPORT => 0.02, ERROR => 0.005);

\feed wiki_edits queries/data/wiki_edits.ndjson.gz
PUNCTUATE wiki_edits WHERE time < TIMESTAMP '2015-09-13';
FLUSH;
SELECT w.window_start, w."user", w.channel, w.count_lower, w.count_upper, e.exact, w.group_rows
FROM who_edits_what w JOIN (
    SELECT window_start, "user", channel, count(*) AS exact
    FROM TUMBLE(wiki_edits, time, INTERVAL '1 hour') GROUP BY window_start, window_end, "user", channel
) e ON e.window_start = w.window_start AND e."user" = w."user" AND e.channel = w.channel
ORDER BY w.count_lower DESC, w.window_start, w."user" LIMIT 10;

-- Answer:
-- | window_start | user | channel | count_lower | count_upper | exact | group_rows |
-- | 2015-09-12 06:00:00 | TuanUt-Bot! | #vi.wikipedia | 706 | 706 | 706 | 2120 |
-- | 2015-09-12 07:00:00 | TuanUt-Bot! | #vi.wikipedia | 662 | 662 | 662 | 2237 |
-- | 2015-09-12 06:00:00 | TuanUt | #vi.wikipedia | 454 | 454 | 454 | 2120 |
-- | 2015-09-12 07:00:00 | TuanUt | #vi.wikipedia | 371 | 371 | 371 | 2237 |
-- | 2015-09-12 10:00:00 | TuanminhBot | #vi.wikipedia | 302 | 302 | 302 | 1792 |
-- | 2015-09-12 09:00:00 | TuanminhBot | #vi.wikipedia | 264 | 264 | 264 | 1704 |
-- | 2015-09-12 11:00:00 | TuanminhBot | #vi.wikipedia | 236 | 236 | 236 | 1624 |
-- | 2015-09-12 08:00:00 | TuanUt-Bot! | #vi.wikipedia | 174 | 174 | 174 | 1622 |
-- | 2015-09-12 05:00:00 | TuanUt-Bot! | #vi.wikipedia | 171 | 173 | 171 | 1260 |
-- | 2015-09-12 08:00:00 | TuanminhBot | #vi.wikipedia | 159 | 159 | 159 | 1622 |
