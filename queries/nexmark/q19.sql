-- What are the ten highest bids on each auction?
--
-- Of equal ones the first has the better place.
CREATE STREAM IF NOT EXISTS bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE CONTINUOUS QUERY q19 AS
    SELECT auction, bidder, price, channel, url, date_time, extra, place
    FROM (SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS place FROM bid)
    WHERE place <= 10;
