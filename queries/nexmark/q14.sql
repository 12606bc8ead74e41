-- Which bids are of a middling price, at what time of the day, and how often has their text a c?
CREATE STREAM IF NOT EXISTS bid (
    auction BIGINT NOT NULL, bidder BIGINT NOT NULL, price BIGINT NOT NULL, channel TEXT, url TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE CONTINUOUS QUERY q14 AS
    SELECT auction, bidder, 0.908 * price AS price,
        CASE WHEN date_part('hour', date_time) BETWEEN 8 AND 18 THEN 'day'
             WHEN date_part('hour', date_time) <= 6 OR date_part('hour', date_time) >= 20 THEN 'night'
             ELSE 'other' END AS time_of_day,
        date_time, extra, length(extra) - length(replace(extra, 'c', '')) AS c_count
    FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;
