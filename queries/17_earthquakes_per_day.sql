-- How many earthquakes did each day have, and how strong was the strongest?
--
-- Reports come in the order of their last revision, up to a week late by the time of the quake. The
-- stream waits that long, so that nothing is late.
CREATE STREAM IF NOT EXISTS earthquakes (
    time BIGINT NOT NULL, updated BIGINT, id TEXT, mag DOUBLE, place TEXT, net TEXT, status TEXT,
    WATERMARK FOR time AS time - 604800000            -- logical time: milliseconds; a week
);

CREATE CONTINUOUS QUERY earthquakes_per_day AS
    SELECT window_start AS day, count(*) AS n, max(mag) AS strongest
    FROM TUMBLE(earthquakes, time, 86400000)
    GROUP BY window_start, window_end;

\feed earthquakes queries/data/earthquakes.ndjson.gz
PUNCTUATE earthquakes WHERE time < 1518480000000;
FLUSH;
SELECT CAST(to_timestamp_millis(day) AS DATE) AS day, n, strongest FROM earthquakes_per_day ORDER BY day;

-- Answer:
-- | day | n | strongest |
-- | 2018-01-31 | 198 | 6.1 |
-- | 2018-02-01 | 231 | 6 |
-- | 2018-02-02 | 242 | 6 |
-- | 2018-02-03 | 259 | 5.2 |
-- | 2018-02-04 | 301 | 6.1 |
-- | 2018-02-05 | 249 | 5.3 |
-- | 2018-02-06 | 213 | 6.4 |
-- | 2018-02-07 | 14 | 3.8 |
