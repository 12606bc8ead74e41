-- How many different names were given each year, and to how many children?
--
-- Time need not be a clock: the year is an integer, and so are the window's size and the bound.
CREATE STREAM IF NOT EXISTS births (
    year BIGINT NOT NULL, name TEXT, sex TEXT, births BIGINT,
    WATERMARK FOR year AS year
);

CREATE CONTINUOUS QUERY births_per_year AS
    SELECT window_start AS year, count(*) AS names, sum(births) AS births
    FROM TUMBLE(births, year, 1)
    GROUP BY window_start, window_end;

\feed births queries/data/baby_names.csv.gz
PUNCTUATE births WHERE year < 2011;
FLUSH;
SELECT year, names, births FROM births_per_year ORDER BY year;

-- Answer:
-- | year | names | births |
-- | 2001 | 30251 | 3738782 |
-- | 2002 | 30547 | 3733299 |
-- | 2003 | 31162 | 3796845 |
-- | 2004 | 32018 | 3814562 |
-- | 2005 | 32508 | 3837175 |
-- | 2006 | 34039 | 3946702 |
-- | 2007 | 34883 | 3986130 |
-- | 2008 | 35006 | 3915955 |
-- | 2009 | 34602 | 3801002 |
-- | 2010 | 33838 | 3657392 |
