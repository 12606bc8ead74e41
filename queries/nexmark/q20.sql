-- What is bid for what is sold in category 10, and by whom?
--
-- Bids and auctions are joined without a bound of time, so both stay.
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

CREATE CONTINUOUS QUERY q20 AS
    SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.date_time AS bid_date_time, b.extra AS bid_extra,
        a.item_name, a.description, a.initial_bid, a.reserve, a.date_time AS auction_date_time, a.expires,
        a.seller, a.category, a.extra AS auction_extra
    FROM bid AS b JOIN auction AS a ON b.auction = a.id
    WHERE a.category = 10;
