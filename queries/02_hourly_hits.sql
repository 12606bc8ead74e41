-- How many requests came in each hour of 18 May 2015, and from how many different clients?
--
-- A tumbling window: each request belongs to one hour, and an hour's row appears once, when the
-- watermark says that nothing older can come.
CREATE STREAM IF NOT EXISTS weblog (
    ts TIMESTAMP NOT NULL, ip TEXT, method TEXT, path TEXT, protocol TEXT,
    status INT, bytes BIGINT, referrer TEXT, agent TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '1 minute'      -- the server wrote up to 59 s out of order
);

CREATE CONTINUOUS QUERY IF NOT EXISTS hourly_hits AS
    SELECT window_start AS hour, count(*) AS hits, count(DISTINCT ip) AS clients
    FROM TUMBLE(weblog, ts, INTERVAL '1 hour')
    GROUP BY window_start, window_end;

\feed weblog queries/data/weblog.ndjson.gz
PUNCTUATE weblog WHERE ts < TIMESTAMP '2015-05-22';    -- the recording has ended: close every window
FLUSH;
SELECT hour, hits, clients FROM hourly_hits
WHERE hour >= TIMESTAMP '2015-05-18' AND hour < TIMESTAMP '2015-05-19' ORDER BY hour;

-- Answer:
-- | hour | hits | clients |
-- | 2015-05-18 00:00:00 | 116 | 52 |
-- | 2015-05-18 01:00:00 | 118 | 28 |
-- | 2015-05-18 02:00:00 | 125 | 47 |
-- | 2015-05-18 03:00:00 | 114 | 44 |
-- | 2015-05-18 04:00:00 | 115 | 49 |
-- | 2015-05-18 05:00:00 | 125 | 43 |
-- | 2015-05-18 06:00:00 | 121 | 41 |
-- | 2015-05-18 07:00:00 | 124 | 44 |
-- | 2015-05-18 08:00:00 | 110 | 3 |
-- | 2015-05-18 09:00:00 | 122 | 17 |
-- | 2015-05-18 10:00:00 | 132 | 52 |
-- | 2015-05-18 11:00:00 | 121 | 57 |
-- | 2015-05-18 12:00:00 | 120 | 27 |
-- | 2015-05-18 13:00:00 | 119 | 44 |
-- | 2015-05-18 14:00:00 | 122 | 49 |
-- | 2015-05-18 15:00:00 | 133 | 37 |
-- | 2015-05-18 16:00:00 | 114 | 47 |
-- | 2015-05-18 17:00:00 | 132 | 46 |
-- | 2015-05-18 18:00:00 | 123 | 58 |
-- | 2015-05-18 19:00:00 | 113 | 34 |
-- | 2015-05-18 20:00:00 | 113 | 32 |
-- | 2015-05-18 21:00:00 | 130 | 42 |
-- | 2015-05-18 22:00:00 | 113 | 39 |
-- | 2015-05-18 23:00:00 | 118 | 42 |
