-- Which pages are asked for that do not exist?
--
-- Two steps: a filter without state passes on the failed requests as they come, and a second query
-- counts over the first. A query's answer is a stream for other queries.
CREATE STREAM IF NOT EXISTS weblog (
    ts TIMESTAMP NOT NULL, ip TEXT, method TEXT, path TEXT, protocol TEXT,
    status INT, bytes BIGINT, referrer TEXT, agent TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '1 minute'      -- the server wrote up to 59 s out of order
);

CREATE CONTINUOUS QUERY not_found AS
    SELECT ts, ip, path, referrer FROM weblog WHERE status = 404;

CREATE CONTINUOUS QUERY missing_pages AS
    SELECT path, count(*) AS requests, count(DISTINCT ip) AS clients
    FROM not_found GROUP BY path;

\feed weblog queries/data/weblog.ndjson.gz
FLUSH;
SELECT path, requests, clients FROM missing_pages ORDER BY requests DESC, path LIMIT 4;

-- Answer:
-- | path | requests | clients |
-- | /files/logstash/logstash-1.3.2-monolithic.jar | 61 | 2 |
-- | /presentations/logstash-puppetconf-2012/images/office-space-printer-beat-down-gif.gif | 32 | 27 |
-- | /blog/wp-admin/ | 6 | 6 |
-- | /wp-admin/ | 6 | 6 |
