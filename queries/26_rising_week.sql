-- Which shares rose on seven trading days in a row or more, and by how much?
--
-- A match is a first day and then days that each close above the day before, as many as there are.
-- The file has one share after the other, so the watermark waits for four years.
CREATE STREAM IF NOT EXISTS shares (
    symbol TEXT, date DATE NOT NULL, close DOUBLE,
    WATERMARK FOR date AS date - INTERVAL '1500 days'
);

CREATE CONTINUOUS QUERY IF NOT EXISTS winning_streaks AS
    SELECT * FROM shares MATCH_RECOGNIZE (
        PARTITION BY symbol ORDER BY date
        MEASURES base.date AS since, LAST(up.date) AS until, count(up.*) AS days,
                 round(100 * (LAST(up.close) / base.close - 1), 2) AS percent
        ONE ROW PER MATCH
        AFTER MATCH SKIP PAST LAST ROW
        PATTERN (base up{7,})
        DEFINE up AS close > PREV(close));

\feed shares queries/data/stocks_daily.csv.gz
PUNCTUATE shares WHERE date < DATE '2017-01-01';
FLUSH;
SELECT symbol, since, until, days, percent FROM winning_streaks ORDER BY days DESC, symbol, since;

-- Answer:
-- | symbol | since | until | days | percent |
-- | FB | 2015-09-03 | 2015-09-21 | 11 | 8.39 |
-- | AMZN | 2013-06-27 | 2013-07-12 | 10 | 10.81 |
-- | AMZN | 2014-08-07 | 2014-08-20 | 9 | 7.81 |
-- | FB | 2013-04-18 | 2013-04-30 | 8 | 8.1 |
-- | FB | 2013-07-05 | 2013-07-17 | 8 | 9.36 |
-- | GOOG | 2013-07-02 | 2013-07-15 | 8 | 4.8 |
-- | AMZN | 2016-04-07 | 2016-04-18 | 7 | 7.43 |
-- | AMZN | 2016-08-03 | 2016-08-12 | 7 | 2.37 |
-- | FB | 2015-03-13 | 2015-03-24 | 7 | 9.3 |
-- | FB | 2016-03-17 | 2016-03-29 | 7 | 4.61 |
-- | GOOG | 2013-08-30 | 2013-09-11 | 7 | 5.82 |
-- | GOOG | 2014-05-15 | 2014-05-27 | 7 | 8.84 |
-- | NFLX | 2015-01-15 | 2015-01-27 | 7 | 40.28 |
