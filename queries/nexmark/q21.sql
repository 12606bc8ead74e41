-- Which number has the channel of a bid?
--
-- Four are known by their names; the others say it in the address, or are left out.
CREATE STREAM IF NOT EXISTS bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE CONTINUOUS QUERY q21 AS
    SELECT auction, bidder, price, channel, channel_id FROM (
        SELECT auction, bidder, price, channel,
            CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
                ELSE (regexp_match(url, '(&|^)channel_id=([^&]*)'))[2] END AS channel_id
        FROM bid)
    WHERE channel_id IS NOT NULL;
