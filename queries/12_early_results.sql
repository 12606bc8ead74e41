-- How much has been sent today, without waiting for midnight?
--
-- Every 100 requests an early row replaces the one before; the final row comes when the day closes.
CREATE STREAM IF NOT EXISTS weblog (
    ts TIMESTAMP NOT NULL, ip TEXT, method TEXT, path TEXT, protocol TEXT,
    status INT, bytes BIGINT, referrer TEXT, agent TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '1 minute'      -- the server wrote up to 59 s out of order
);

CREATE CONTINUOUS QUERY sent_per_day AS
    SELECT window_start AS day, count(*) AS hits, sum(bytes) AS bytes
    FROM TUMBLE(weblog, ts, INTERVAL '1 day')
    GROUP BY window_start, window_end
    EMIT EVERY 100 ROWS ON CLOSE;

\feed weblog queries/data/weblog.ndjson.gz
PUNCTUATE weblog WHERE ts < TIMESTAMP '2015-05-22';    -- the recording has ended: close every window
FLUSH;
SELECT day, hits, bytes FROM sent_per_day ORDER BY day;

-- Answer:
-- | day | hits | bytes |
-- | 2015-05-17 00:00:00 | 1632 | 414259902 |
-- | 2015-05-18 00:00:00 | 2893 | 788636158 |
-- | 2015-05-19 00:00:00 | 2896 | 665827339 |
-- | 2015-05-20 00:00:00 | 2578 | 878559106 |
