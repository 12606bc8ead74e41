-- On which days of 2016 did Amazon's ten-day average rise while Google's fell?
--
-- OVER on OVER: the average of ten rows, and its difference to that of the row before.
CREATE STREAM IF NOT EXISTS shares (
    symbol TEXT, date DATE NOT NULL, close DOUBLE,
    WATERMARK FOR date AS date - INTERVAL '1500 days'
);

CREATE CONTINUOUS QUERY crossings AS
    SELECT date FROM (
        SELECT symbol, date, ma10 - lag(ma10) OVER (PARTITION BY symbol ORDER BY date) AS trend FROM (
            SELECT symbol, date, avg(close) OVER (PARTITION BY symbol ORDER BY date ROWS 9 PRECEDING) AS ma10
            FROM shares))
    WHERE date >= DATE '2016-01-01' GROUP BY date
    HAVING max(trend) FILTER (WHERE symbol = 'AMZN') > 0 AND max(trend) FILTER (WHERE symbol = 'GOOG') < 0;

\feed shares queries/data/stocks_daily.csv.gz
PUNCTUATE shares WHERE date < DATE '2017-01-01';
FLUSH;
SELECT count(*) AS days, min(date) AS first_day, max(date) AS last_day FROM crossings;

-- Answer:
-- | days | first_day | last_day |
-- | 37 | 2016-03-07 | 2016-11-30 |
