-- On which days of 2016 did Amazon close above 700 dollars while its three rivals were below their ten-day averages?
--
-- OVER gives each share its average; a GROUP BY of the day brings the four of them together.
CREATE STREAM IF NOT EXISTS shares (
    symbol TEXT, date DATE NOT NULL, close DOUBLE,
    WATERMARK FOR date AS date - INTERVAL '1500 days'
);

CREATE CONTINUOUS QUERY above_alone AS
    SELECT date, max(close) FILTER (WHERE symbol = 'AMZN') AS amazon FROM (
        SELECT symbol, date, close,
            avg(close) OVER (PARTITION BY symbol ORDER BY date ROWS 9 PRECEDING) AS ma10
        FROM shares)
    WHERE date >= DATE '2016-01-01' GROUP BY date
    HAVING max(close) FILTER (WHERE symbol = 'AMZN') > 700
        AND count(*) FILTER (WHERE symbol <> 'AMZN' AND close < ma10) = 3;

\feed shares queries/data/stocks_daily.csv.gz
PUNCTUATE shares WHERE date < DATE '2017-01-01';
FLUSH;
SELECT count(*) AS days, min(date) AS first_day, max(date) AS last_day, max(amazon) AS highest FROM above_alone;

-- Answer:
-- | days | first_day | last_day | highest |
-- | 32 | 2016-06-07 | 2016-12-30 | 829.280029 |
