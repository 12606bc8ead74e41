-- What is each bidder's last bid on each auction?
--
-- Of several of one time the one that arrived first.
CREATE STREAM IF NOT EXISTS bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE CONTINUOUS QUERY q18 AS
    SELECT auction, bidder, price, channel, url, date_time, extra
    FROM (SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC) AS nth FROM bid)
    WHERE nth = 1;
