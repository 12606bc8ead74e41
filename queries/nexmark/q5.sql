-- Which auctions had the most bids in the last ten seconds, every two seconds?
--
-- All that share the first place count. Both sides of the join are windows, so they leave when the window closes.
CREATE STREAM IF NOT EXISTS bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE CONTINUOUS QUERY q5 AS
    WITH counted AS (
        SELECT window_start, window_end, auction, count(*) AS num
        FROM HOP(bid, date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND)
        GROUP BY window_start, window_end, auction)
    SELECT c.window_start, c.window_end, c.auction, c.num
    FROM counted AS c
    JOIN (SELECT window_start, window_end, max(num) AS most FROM counted GROUP BY window_start, window_end) AS m
        ON c.window_start = m.window_start AND c.window_end = m.window_end AND c.num = m.most;
