-- In which hour was each company mentioned most, looking every 15 minutes?
--
-- Sliding windows per symbol; the best one of each is asked for once.
CREATE STREAM IF NOT EXISTS mentions (
    time TIMESTAMP NOT NULL, symbol TEXT, mentions BIGINT,
    WATERMARK FOR time AS time
);

CREATE CONTINUOUS QUERY mentions_per_hour AS
    SELECT window_start, symbol, sum(mentions) AS mentions
    FROM HOP(mentions, time, INTERVAL '15 minutes', INTERVAL '1 hour')
    GROUP BY window_start, window_end, symbol;

\feed mentions queries/data/twitter_volume.csv.gz
PUNCTUATE mentions WHERE time < TIMESTAMP '2015-05-01';
FLUSH;
SELECT symbol, first_value(window_start ORDER BY mentions DESC) AS hour, max(mentions) AS most
FROM mentions_per_hour GROUP BY symbol ORDER BY symbol;

-- Answer:
-- | symbol | hour | most |
-- | AAPL | 2015-04-14 22:45:00 | 75771 |
-- | AMZN | 2015-03-11 20:45:00 | 3121 |
-- | FB | 2015-04-03 17:30:00 | 2852 |
-- | GOOG | 2015-03-13 20:15:00 | 2710 |
-- | IBM | 2015-04-20 20:00:00 | 732 |
