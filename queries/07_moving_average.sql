-- What is the average price of each share over its last ten trading days?
--
-- A count window that slides by one row: the ten last rows of each symbol, whatever days they are.
CREATE STREAM IF NOT EXISTS stocks (symbol TEXT, date DATE, close DOUBLE, volume BIGINT);

CREATE CONTINUOUS QUERY moving_average AS
    SELECT symbol, window_id, max(date) AS date, last_value(close) AS close, avg(close) AS ma10
    FROM COUNT_WINDOW(stocks, 10, SLIDE => 1, PARTITION => symbol)
    GROUP BY symbol, window_id;

\feed stocks queries/data/stocks_daily.csv.gz
FLUSH;
SELECT symbol, date, close, round(ma10, 6) AS ma10 FROM moving_average
WHERE date = DATE '2016-12-30' ORDER BY symbol;

-- Answer:
-- | symbol | date | close | ma10 |
-- | AMZN | 2016-12-30 | 749.869995 | 765.107007 |
-- | FB | 2016-12-30 | 115.050003 | 117.824 |
-- | GOOG | 2016-12-30 | 771.820007 | 788.835992 |
-- | NFLX | 2016-12-30 | 123.800003 | 125.583001 |
