-- How many dead animals were reported in New York in the seven days up to each midnight?
--
-- A sliding window: every day a window of seven days ends, so each report counts in seven of them.
-- Beside a time window WHERE filters the rows that are counted.
CREATE STREAM IF NOT EXISTS city_311 (
    created TIMESTAMP NOT NULL, closed TIMESTAMP, complaint TEXT, descriptor TEXT, city TEXT, borough TEXT,
    WATERMARK FOR created AS created
);

CREATE CONTINUOUS QUERY dead_animals AS
    SELECT window_end AS until, count(*) AS reports
    FROM HOP(city_311, created, INTERVAL '1 day', INTERVAL '7 days')
    WHERE complaint = 'Dead Animal'
    GROUP BY window_start, window_end;

\feed city_311 queries/data/city_311.csv.gz
PUNCTUATE city_311 WHERE created < TIMESTAMP '2025-03-22';
FLUSH;
SELECT until, reports FROM dead_animals
WHERE until BETWEEN TIMESTAMP '2025-02-01' AND TIMESTAMP '2025-02-03' ORDER BY until;

-- Answer:
-- | until | reports |
-- | 2025-02-01 00:00:00 | 180 |
-- | 2025-02-02 00:00:00 | 186 |
-- | 2025-02-03 00:00:00 | 191 |
