-- Who came and opened an auction within the same ten seconds?
CREATE STREAM IF NOT EXISTS person (
    id BIGINT NOT NULL, name TEXT, email_address TEXT, credit_card TEXT, city TEXT, state TEXT,
    date_time TIMESTAMP NOT NULL, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);
CREATE STREAM IF NOT EXISTS auction (
    id BIGINT NOT NULL, item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT,
    date_time TIMESTAMP NOT NULL, expires TIMESTAMP, seller BIGINT, category BIGINT, extra TEXT,
    WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND
);

CREATE CONTINUOUS QUERY q8 AS
    SELECT p.id, p.name, p.window_start
    FROM (SELECT id, name, window_start, window_end
          FROM TUMBLE(person, date_time, INTERVAL '10' SECOND)
          GROUP BY id, name, window_start, window_end) AS p
    JOIN (SELECT seller, window_start, window_end
          FROM TUMBLE(auction, date_time, INTERVAL '10' SECOND)
          GROUP BY seller, window_start, window_end) AS a
        ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end;
