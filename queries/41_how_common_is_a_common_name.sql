-- How many children of a year bear a name that is more common than half, 99 % and 99.9 % of the names, by sex?
--
-- Quantiles with bounds that always hold, over 328,854 counts; the exact ones stand beside them, asked once. The greatest of a
-- bin is known, so some answers are exact among so many values, too.
CREATE STREAM IF NOT EXISTS births (
    year BIGINT NOT NULL, name TEXT, sex TEXT, births BIGINT,
    WATERMARK FOR year AS year
);

CREATE CONTINUOUS QUERY common_names AS
    SELECT sex, approx_quantile_bounds(births, 0.5) AS half, approx_quantile_bounds(births, 0.99) AS p99,
        approx_quantile_bounds(births, 0.999) AS p999
    FROM births GROUP BY sex;

\feed births queries/data/baby_names.csv.gz
FLUSH;
SELECT q.sex, half['estimate'] AS half, p99['lower'] AS q99_lower, e.q99, p99['upper'] AS q99_upper,
    p999['lower'] AS q999_lower, e.q999, p999['upper'] AS q999_upper
FROM common_names q JOIN (
    SELECT sex, min(births) FILTER (WHERE rank >= 0.99 * n) AS q99, min(births) FILTER (WHERE rank >= 0.999 * n) AS q999
    FROM (SELECT sex, births, row_number() OVER (PARTITION BY sex ORDER BY births) AS rank,
            count(*) OVER (PARTITION BY sex) AS n FROM births) ranked GROUP BY sex
) e ON e.sex = q.sex ORDER BY q.sex;

-- Answer:
-- | sex | half | q99_lower | q99 | q99_upper | q999_lower | q999 | q999_upper |
-- | F | 11 | 1704 | 1706 | 1711 | 9349 | 9351 | 9387 |
-- | M | 11 | 2945 | 2950 | 2956 | 16941 | 16941 | 16941 |
