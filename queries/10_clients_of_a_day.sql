-- How many clients did each day have, and how many requests did the busiest one make in an hour?
--
-- Windows stack: the start of an hour is a time that a window of a day can be put over.
CREATE STREAM IF NOT EXISTS weblog (
    ts TIMESTAMP NOT NULL, ip TEXT, method TEXT, path TEXT, protocol TEXT,
    status INT, bytes BIGINT, referrer TEXT, agent TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '1 minute'      -- the server wrote up to 59 s out of order
);

CREATE CONTINUOUS QUERY client_hours AS
    SELECT window_start AS hour, ip, count(*) AS hits
    FROM TUMBLE(weblog, ts, INTERVAL '1 hour')
    GROUP BY window_start, window_end, ip;

CREATE CONTINUOUS QUERY client_days AS
    SELECT window_start AS day, count(DISTINCT ip) AS clients, max(hits) AS busiest_hour, sum(hits) AS hits
    FROM TUMBLE(client_hours, hour, INTERVAL '1 day')
    GROUP BY window_start, window_end;

\feed weblog queries/data/weblog.ndjson.gz
PUNCTUATE weblog WHERE ts < TIMESTAMP '2015-05-22';    -- the recording has ended: close every window
FLUSH;
SELECT day, clients, busiest_hour, hits FROM client_days ORDER BY day;

-- Answer:
-- | day | clients | busiest_hour | hits |
-- | 2015-05-17 00:00:00 | 341 | 47 | 1632 |
-- | 2015-05-18 00:00:00 | 627 | 108 | 2893 |
-- | 2015-05-19 00:00:00 | 561 | 56 | 2896 |
-- | 2015-05-20 00:00:00 | 505 | 75 | 2578 |
