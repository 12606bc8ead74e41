-- What comes through the system unchanged?
--
-- The cost of a row on its way: everything else is compared with this.
CREATE STREAM IF NOT EXISTS bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE CONTINUOUS QUERY q0 AS
    SELECT auction, bidder, price, date_time, extra FROM bid;
