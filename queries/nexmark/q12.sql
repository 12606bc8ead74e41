-- How many bids does each bidder make in ten seconds of the server's clock?
--
-- A stream without a watermark has the time at which rows arrive.
CREATE STREAM IF NOT EXISTS bid_arrivals (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT
);

CREATE CONTINUOUS QUERY q12 AS
    SELECT bidder, count(*) AS bid_count, window_start, window_end
    FROM TUMBLE(bid_arrivals, _ingest_time, INTERVAL '10' SECOND)
    GROUP BY bidder, window_start, window_end;
