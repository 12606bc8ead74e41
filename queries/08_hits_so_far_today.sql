-- How many requests and clients has the day had so far, every six hours?
--
-- A cumulating window grows in steps to its full size, then a new one begins.
CREATE STREAM IF NOT EXISTS weblog (
    ts TIMESTAMP NOT NULL, ip TEXT, method TEXT, path TEXT, protocol TEXT,
    status INT, bytes BIGINT, referrer TEXT, agent TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '1 minute'      -- the server wrote up to 59 s out of order
);

CREATE CONTINUOUS QUERY hits_so_far AS
    SELECT window_start AS day, window_end AS until, count(*) AS hits, count(DISTINCT ip) AS clients
    FROM CUMULATE(weblog, ts, INTERVAL '6 hours', INTERVAL '1 day')
    GROUP BY window_start, window_end;

\feed weblog queries/data/weblog.ndjson.gz
PUNCTUATE weblog WHERE ts < TIMESTAMP '2015-05-22';    -- the recording has ended: close every window
FLUSH;
SELECT until, hits, clients FROM hits_so_far WHERE day = TIMESTAMP '2015-05-18' ORDER BY until;

-- Answer:
-- | until | hits | clients |
-- | 2015-05-18 06:00:00 | 713 | 191 |
-- | 2015-05-18 12:00:00 | 1443 | 325 |
-- | 2015-05-18 18:00:00 | 2183 | 480 |
-- | 2015-05-19 00:00:00 | 2893 | 627 |
