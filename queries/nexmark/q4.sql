-- What is the average of the winning bids, for each category?
--
-- The highest bid of an auction changes as bids come, so the averages are corrected.
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

CREATE CONTINUOUS QUERY q4 AS
    SELECT category, avg(final) AS final
    FROM (SELECT a.id, a.category, max(b.price) AS final
          FROM auction AS a JOIN bid AS b
              ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
          GROUP BY a.id, a.category)
    GROUP BY category;
