-- Which page do visitors of the web site go to next, within half an hour?
--
-- Each request to a page and the one before it of the same visitor: lag() in the order of event time.
CREATE STREAM IF NOT EXISTS weblog (
    ts TIMESTAMP NOT NULL, ip TEXT, method TEXT, path TEXT, protocol TEXT,
    status INT, bytes BIGINT, referrer TEXT, agent TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '1 minute'      -- the server wrote up to 59 s out of order
);

CREATE CONTINUOUS QUERY steps AS
    SELECT ts, ip, before, path FROM (
        SELECT ts, ip, path, lag(path) OVER visitor AS before, lag(ts) OVER visitor AS left_at
        FROM (SELECT ts, ip, path FROM weblog WHERE path LIKE '%/')
        WINDOW visitor AS (PARTITION BY ip ORDER BY ts))
    WHERE path <> before AND ts <= left_at + INTERVAL '30 minutes';
CREATE CONTINUOUS QUERY next_pages AS
    SELECT before, path, count(*) AS times, count(DISTINCT ip) AS visitors FROM steps GROUP BY before, path;

\feed weblog queries/data/weblog.ndjson.gz
PUNCTUATE weblog WHERE ts < TIMESTAMP '2015-05-22';    -- the recording has ended: close everything
FLUSH;
SELECT before, path, times, visitors FROM next_pages ORDER BY times DESC, before, path LIMIT 5;

-- Answer:
-- | before | path | times | visitors |
-- | / | /articles/ssh-security/ | 11 | 11 |
-- | /articles/ssh-security/ | / | 8 | 8 |
-- | /kibana/ | /presentations/logstash-scale11x/ | 8 | 8 |
-- | /presentations/logstash-scale11x/ | /kibana/ | 5 | 5 |
-- | /projects/xdotool/ | /files/xdotool/docs/ | 5 | 5 |
