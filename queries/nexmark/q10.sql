-- How are all bids kept in files, with their day and their minute?
--
-- Each bid is in one file once, also after a crash.
CREATE STREAM IF NOT EXISTS bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE CONTINUOUS QUERY q10 AS
    SELECT auction, bidder, price, date_time, extra,
        to_char(date_time, '%Y-%m-%d') AS day, to_char(date_time, '%H:%M') AS minute
    FROM bid;
CREATE SINK q10_files FROM q10 INTO FILE WITH (path = 'nexmark_q10', format = 'csv');
