-- On which days did a share rise by at least 5 % against the trading day before?
--
-- The file has one share after the other, so the watermark waits for four years.
CREATE STREAM IF NOT EXISTS shares (
    symbol TEXT, date DATE NOT NULL, close DOUBLE,
    WATERMARK FOR date AS date - INTERVAL '1500 days'
);

CREATE CONTINUOUS QUERY rises AS
    SELECT symbol, date, close / before AS ratio FROM (
        SELECT symbol, date, close, lag(close) OVER (PARTITION BY symbol ORDER BY date) AS before FROM shares)
    WHERE close / before >= 1.05;

\feed shares queries/data/stocks_daily.csv.gz
PUNCTUATE shares WHERE date < DATE '2017-01-01';
FLUSH;
SELECT symbol, count(*) AS days, first_value(date ORDER BY ratio DESC) AS largest_on,
    round(100 * (max(ratio) - 1), 4) AS largest_percent
FROM rises GROUP BY symbol ORDER BY symbol;

-- Answer:
-- | symbol | days | largest_on | largest_percent |
-- | AMZN | 11 | 2015-04-24 | 14.1311 |
-- | FB | 13 | 2013-07-25 | 29.6115 |
-- | GOOG | 5 | 2015-07-17 | 16.0524 |
-- | NFLX | 42 | 2013-01-24 | 42.2235 |
