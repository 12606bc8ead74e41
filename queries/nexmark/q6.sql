-- What is the average price of each seller's last ten sales?
--
-- The winning bid of an auction changes as bids come, so the rows under OVER are taken back and given again.
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

CREATE CONTINUOUS QUERY q6 AS
    SELECT seller, id, avg(price) OVER (
        PARTITION BY seller ORDER BY date_time, id ROWS BETWEEN 9 PRECEDING AND CURRENT ROW) AS mean
    FROM (SELECT a.id, a.seller, b.price, b.date_time,
              row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time, b.bidder) AS nth
          FROM auction AS a JOIN bid AS b
              ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires)
    WHERE nth = 1;
