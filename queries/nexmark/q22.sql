-- What are the first three folders of a bid's address?
CREATE STREAM IF NOT EXISTS bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE CONTINUOUS QUERY q22 AS
    SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS folder1, split_part(url, '/', 5) AS folder2,
        split_part(url, '/', 6) AS folder3
    FROM bid;
