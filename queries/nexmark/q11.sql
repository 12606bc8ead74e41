-- How many bids does each bidder make in a session?
--
-- A session ends after ten seconds without a bid.
CREATE STREAM IF NOT EXISTS bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE CONTINUOUS QUERY q11 AS
    SELECT bidder, count(*) AS bid_count, window_start, window_end
    FROM SESSION(bid, date_time, INTERVAL '10' SECOND, PARTITION => bidder)
    GROUP BY bidder, window_start, window_end;
