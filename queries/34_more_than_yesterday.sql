-- Which complaints came at least twice as often as on the day before, and at least ten times more?
--
-- TREND compares each day with the one before it, as soon as the day is over.
CREATE STREAM IF NOT EXISTS requests (
    created TIMESTAMP NOT NULL, closed TIMESTAMP, key TEXT, agency TEXT, complaint TEXT, descriptor TEXT,
    location_type TEXT, zip TEXT, city TEXT, borough TEXT, status TEXT,
    WATERMARK FOR created AS created
);

CREATE CONTINUOUS QUERY more_than_yesterday AS
    SELECT window_start, complaint, count_before, count_now, ratio
    FROM TREND(TUMBLE(requests, created, INTERVAL '1 day'), ITEM => complaint,
        COMPARE_TO => INTERVAL '1 day', MIN_DIFFERENCE => 10);

\feed requests queries/data/city_311.csv.gz
PUNCTUATE requests WHERE created < TIMESTAMP '2025-03-15';
FLUSH;
SELECT window_start::DATE AS day, complaint, count_before, count_now, round(ratio, 2) AS ratio
FROM more_than_yesterday ORDER BY day;

-- Answer:
-- | day | complaint | count_before | count_now | ratio |
-- | 2025-01-02 | Dead Animal | 15 | 30 | 2 |
-- | 2025-01-03 | Animal-Abuse | 22 | 46 | 2.09 |
-- | 2025-01-13 | Animal-Abuse | 21 | 43 | 2.05 |
-- | 2025-01-22 | Dead Animal | 3 | 17 | 5.67 |
-- | 2025-01-30 | Animal-Abuse | 13 | 29 | 2.23 |
-- | 2025-02-11 | Dead Animal | 11 | 24 | 2.18 |
-- | 2025-02-15 | Animal in a Park | 9 | 20 | 2.22 |
-- | 2025-02-17 | Dead Animal | 5 | 22 | 4.4 |
