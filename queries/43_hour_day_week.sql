-- Which kinds of complaint came from Brooklyn and not from Queens during the last hour, day, week, looked at every hour?
--
-- One query and one set of slices of an hour each: the week is the merge of 168 of them, the day of the last 24, the hour is one.
CREATE STREAM IF NOT EXISTS requests (
    created TIMESTAMP, complaint TEXT, descriptor TEXT, borough TEXT,
    WATERMARK FOR created AS created
);

CREATE CONTINUOUS QUERY only_here AS
    SELECT window_start, window_end, count(*) AS requests,
        count_distinct_except(struct(complaint, descriptor), borough = 'BROOKLYN', borough = 'QUEENS') AS brooklyn_only,
        count_distinct_except(struct(complaint, descriptor), borough = 'QUEENS', borough = 'BROOKLYN') AS queens_only
    FROM HOP(requests, created, INTERVAL '1 hour', INTERVAL '1 hour', INTERVAL '1 day', INTERVAL '7 days')
    GROUP BY window_start, window_end;

\feed requests queries/data/city_311.csv.gz
PUNCTUATE requests WHERE created < TIMESTAMP '2025-03-25';
FLUSH;
SELECT window_end, CAST((date_part('epoch', window_end) - date_part('epoch', window_start)) / 3600 AS BIGINT) AS hours, requests,
    brooklyn_only['estimate'] AS brooklyn_only, queens_only['estimate'] AS queens_only, brooklyn_only['exact'] AS exact
FROM only_here WHERE window_end IN (TIMESTAMP '2025-02-10 15:00:00', TIMESTAMP '2025-03-01 18:00:00') ORDER BY 1, 2;

-- Answer:
-- | window_end | hours | requests | brooklyn_only | queens_only | exact |
-- | 2025-02-10 15:00:00 | 1 | 3 | 1 | 0 | t |
-- | 2025-02-10 15:00:00 | 24 | 48 | 6 | 2 | t |
-- | 2025-02-10 15:00:00 | 168 | 442 | 3 | 4 | t |
-- | 2025-03-01 18:00:00 | 1 | 2 | 0 | 1 | t |
-- | 2025-03-01 18:00:00 | 24 | 70 | 4 | 2 | t |
-- | 2025-03-01 18:00:00 | 168 | 563 | 6 | 3 | t |
