-- Which complaints came more often than on the day before, and by more than chance?
--
-- 207 times a complaint came more often than the day before. With CONFIDENCE only those are told whose rate rose for
-- sure; its ratio lies between the bounds with 99 %.
CREATE STREAM IF NOT EXISTS requests (
    created TIMESTAMP NOT NULL, closed TIMESTAMP, key TEXT, agency TEXT, complaint TEXT, descriptor TEXT,
    location_type TEXT, zip TEXT, city TEXT, borough TEXT, status TEXT,
    WATERMARK FOR created AS created
);

CREATE CONTINUOUS QUERY rose AS
    SELECT window_start, complaint, count_before, count_now, ratio, ratio_lower, ratio_upper
    FROM TREND(TUMBLE(requests, created, INTERVAL '1 day'), ITEM => complaint, COMPARE_TO => 'previous',
        MIN_RATIO => 1, CONFIDENCE => 0.99);

\feed requests queries/data/city_311.csv.gz
PUNCTUATE requests WHERE created < TIMESTAMP '2025-04-01';
FLUSH;
SELECT window_start::DATE AS day, complaint, count_before, count_now, round(ratio, 2) AS ratio,
    round(ratio_lower, 2) AS at_least, round(ratio_upper, 2) AS at_most
FROM rose ORDER BY day;

-- Answer:
-- | day | complaint | count_before | count_now | ratio | at_least | at_most |
-- | 2025-01-22 | Dead Animal | 3 | 17 | 5.67 | 1.02 | 91.04 |
-- | 2025-02-17 | Dead Animal | 5 | 22 | 4.4 | 1.06 | 32.59 |
