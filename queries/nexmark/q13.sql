-- What does a bounded table say of each bid when it arrives?
--
-- A later change of the table meets later bids only.
CREATE STREAM IF NOT EXISTS bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE TABLE IF NOT EXISTS side_input (key BIGINT PRIMARY KEY, value TEXT);
INSERT INTO side_input SELECT g.value, 'value ' || g.value FROM generate_series(0, 9999) AS g;
CREATE CONTINUOUS QUERY q13 AS
    SELECT b.auction, b.bidder, b.price, b.date_time, s.value
    FROM bid AS b JOIN side_input AS s FOR SYSTEM_TIME AS OF b.date_time ON s.key = mod(b.auction, 10000);
