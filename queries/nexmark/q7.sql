-- What is the highest bid of every ten seconds?
CREATE STREAM IF NOT EXISTS bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE CONTINUOUS QUERY q7 AS
    SELECT b.auction, b.bidder, b.price, b.date_time
    FROM bid AS b
    JOIN (SELECT window_start, window_end, max(price) AS most
          FROM TUMBLE(bid, date_time, INTERVAL '10' SECOND) GROUP BY window_start, window_end) AS m
        ON b.price = m.most AND b.date_time >= m.window_start AND b.date_time < m.window_end;
