-- When was a company mentioned ten times as often as in the hour before?
--
-- Each five minutes against the twelve values before them: OVER in the order of event time.
CREATE STREAM IF NOT EXISTS mentions (
    time TIMESTAMP NOT NULL, symbol TEXT, mentions BIGINT,
    WATERMARK FOR time AS time
);

CREATE CONTINUOUS QUERY mention_bursts AS
    SELECT symbol, time, mentions, mean FROM (
        SELECT symbol, time, mentions, avg(mentions) OVER before AS mean, count(*) OVER before AS n
        FROM mentions
        WINDOW before AS (PARTITION BY symbol ORDER BY time ROWS BETWEEN 12 PRECEDING AND 1 PRECEDING))
    WHERE n = 12 AND mean > 0 AND mentions >= 10 * mean;

\feed mentions queries/data/twitter_volume.csv.gz
PUNCTUATE mentions WHERE time < TIMESTAMP '2015-05-01';
FLUSH;
SELECT symbol, count(*) AS bursts FROM mention_bursts GROUP BY symbol ORDER BY symbol;

-- Answer:
-- | symbol | bursts |
-- | AAPL | 42 |
-- | AMZN | 3 |
-- | FB | 10 |
-- | GOOG | 5 |
-- | IBM | 27 |
