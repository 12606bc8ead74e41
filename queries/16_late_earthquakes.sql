-- Which reports of earthquakes come more than a day late, and what becomes of them?
--
-- The stream waits a day for late reports. What comes later is not lost in silence: the row is
-- stored and marked (_late), and weir.late_rows names each row that a closed window did not count.
CREATE STREAM IF NOT EXISTS earthquakes_within_a_day (
    time BIGINT NOT NULL, updated BIGINT, id TEXT, mag DOUBLE, place TEXT, net TEXT, status TEXT,
    WATERMARK FOR time AS time - 86400000             -- logical time: milliseconds
);

CREATE CONTINUOUS QUERY earthquakes_per_minute AS
    SELECT window_start AS minute, count(*) AS n
    FROM TUMBLE(earthquakes_within_a_day, time, 60000)
    GROUP BY window_start, window_end;

\feed earthquakes_within_a_day queries/data/earthquakes.ndjson.gz
PUNCTUATE earthquakes_within_a_day WHERE time < 1518480000000;
FLUSH;
SELECT
    (SELECT count(*) FROM earthquakes_within_a_day) AS reports,
    (SELECT count(*) FROM earthquakes_within_a_day WHERE _late) AS late,
    (SELECT sum(n) FROM earthquakes_per_minute)
        + (SELECT count(*) FROM weir.late_rows WHERE query = 'earthquakes_per_minute') AS accounted_for;

-- Answer:
-- | reports | late | accounted_for |
-- | 1707 | 314 | 1707 |
