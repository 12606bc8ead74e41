-- Which pages had an unusual number of hits in an hour: a sixteenth of all, though not a fiftieth over the four days?
--
-- Every ten minutes the past hour's frequent pages, beside the share that the page has over all rows.
CREATE STREAM IF NOT EXISTS weblog (
    ts TIMESTAMP NOT NULL, ip TEXT, method TEXT, path TEXT, protocol TEXT,
    status INT, bytes BIGINT, referrer TEXT, agent TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '1 minute'      -- the server wrote up to 59 s out of order
);

CREATE CONTINUOUS QUERY pages_of_the_hour AS
    SELECT window_end AS until, path, count_lower AS at_least, count_upper AS at_most, group_rows AS hits
    FROM HEAVY_HITTERS(HOP(weblog, ts, INTERVAL '10 minutes', INTERVAL '1 hour'), ITEM => path,
        SUPPORT => 0.06, MODE => 'no_false_positives');

\feed weblog queries/data/weblog.ndjson.gz
PUNCTUATE weblog WHERE ts < TIMESTAMP '2015-05-22 00:00:00';
FLUSH;
SELECT max(p.until) AS last_until, p.path, max(p.at_least) AS at_least, max(p.hits) AS hits, o.exact AS of_all
FROM pages_of_the_hour p
JOIN (SELECT path, count(*) AS exact FROM weblog GROUP BY path) o ON o.path = p.path
WHERE o.exact * 50 < 9999
GROUP BY p.path, o.exact ORDER BY at_least DESC, p.path LIMIT 10;

-- Answer:
-- | last_until | path | at_least | hits | of_all |
-- | 2015-05-19 20:00:00 | /images/logstash_OSCON.pdf | 17 | 136 | 47 |
-- | 2015-05-18 12:00:00 | / | 9 | 121 | 197 |
-- | 2015-05-19 00:00:00 | /presentations/logstash-scale11x/images/ahhh___rage_face_by_samusmmx-d5g5zap.png | 9 | 132 | 128 |
-- | 2015-05-20 06:00:00 | /articles/dynamic-dns-with-dhcp/ | 8 | 124 | 135 |
-- | 2015-05-20 10:00:00 | /robots.txt | 8 | 125 | 180 |
-- | 2015-05-20 14:00:00 | /images/googledotcom.png | 7 | 113 | 101 |
