-- Which bid wins each auction?
--
-- Of several highest ones the first.
CREATE STREAM IF NOT EXISTS auction (
    id BIGINT NOT NULL, item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT,
    date_time TIMESTAMP NOT NULL, expires TIMESTAMP, seller BIGINT, category BIGINT, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);
CREATE STREAM IF NOT EXISTS bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE CONTINUOUS QUERY q9 AS
    SELECT id, item_name, description, initial_bid, reserve, date_time, expires, seller, category,
        auction, bidder, price, bid_date_time
    FROM (SELECT a.*, b.auction, b.bidder, b.price, b.date_time AS bid_date_time,
              row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time, b.bidder) AS nth
          FROM auction AS a JOIN bid AS b
              ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires)
    WHERE nth = 1;
