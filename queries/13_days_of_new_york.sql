-- How many requests does each day of New York have?
--
-- Windows of a day follow the calendar of a time zone, its daylight saving included. window_start is
-- the midnight of New York, in UTC.
CREATE STREAM IF NOT EXISTS weblog (
    ts TIMESTAMP NOT NULL, ip TEXT, method TEXT, path TEXT, protocol TEXT,
    status INT, bytes BIGINT, referrer TEXT, agent TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '1 minute'      -- the server wrote up to 59 s out of order
);

CREATE CONTINUOUS QUERY days_of_new_york AS
    SELECT window_start, count(*) AS hits
    FROM TUMBLE(weblog, ts, INTERVAL '1 day', TIMEZONE => 'America/New_York')
    GROUP BY window_start, window_end;

\feed weblog queries/data/weblog.ndjson.gz
PUNCTUATE weblog WHERE ts < TIMESTAMP '2015-05-22';    -- the recording has ended: close every window
FLUSH;
SELECT window_start, hits FROM days_of_new_york ORDER BY window_start;

-- Answer:
-- | window_start | hits |
-- | 2015-05-17 04:00:00 | 2105 |
-- | 2015-05-18 04:00:00 | 2897 |
-- | 2015-05-19 04:00:00 | 2909 |
-- | 2015-05-20 04:00:00 | 2088 |
