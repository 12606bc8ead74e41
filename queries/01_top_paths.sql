-- Which ten paths of the web site are asked for most, at any moment?
--
-- A GROUP BY without a window keeps one row per path for ever and changes it with every request:
-- a subscriber sees the old row go (-) and the new one come (+).
CREATE STREAM IF NOT EXISTS weblog (
    ts TIMESTAMP NOT NULL, ip TEXT, method TEXT, path TEXT, protocol TEXT,
    status INT, bytes BIGINT, referrer TEXT, agent TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '1 minute'      -- the server wrote up to 59 s out of order
);

CREATE CONTINUOUS QUERY top_paths AS
    SELECT path, count(*) AS hits FROM weblog GROUP BY path
    EMIT CHANGES;

\feed weblog queries/data/weblog.ndjson.gz
FLUSH;
SELECT path, hits FROM top_paths ORDER BY hits DESC, path LIMIT 10;

-- Answer:
-- | path | hits |
-- | /favicon.ico | 807 |
-- | /style2.css | 546 |
-- | /reset.css | 538 |
-- | /images/jordan-80.png | 533 |
-- | /images/web/2009/banner.png | 516 |
-- | /blog/tags/puppet?flav=rss20 | 488 |
-- | /projects/xdotool/ | 224 |
-- | /?flav=rss20 | 217 |
-- | / | 197 |
-- | /robots.txt | 180 |
