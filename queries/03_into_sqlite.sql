-- How do the hourly figures get into a database, each row once, whatever crashes in between?
--
-- A sink writes the rows and its own progress in one transaction of the target. The table is made
-- if it is missing.
CREATE STREAM IF NOT EXISTS weblog (
    ts TIMESTAMP NOT NULL, ip TEXT, method TEXT, path TEXT, protocol TEXT,
    status INT, bytes BIGINT, referrer TEXT, agent TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '1 minute'      -- the server wrote up to 59 s out of order
);

CREATE CONTINUOUS QUERY IF NOT EXISTS hourly_hits AS
    SELECT window_start AS hour, count(*) AS hits, count(DISTINCT ip) AS clients
    FROM TUMBLE(weblog, ts, INTERVAL '1 hour')
    GROUP BY window_start, window_end;

CREATE SINK hourly_hits_table FROM hourly_hits
    INTO SQLITE WITH (path = 'hourly_hits.sqlite', table = 'hourly_hits', mode = 'append');

\feed weblog queries/data/weblog.ndjson.gz
PUNCTUATE weblog WHERE ts < TIMESTAMP '2015-05-22';    -- the recording has ended: close every window
FLUSH;
FLUSH SINK hourly_hits_table;
SELECT count(*) AS hours, sum(hits) AS hits, max(clients) AS most_clients FROM hourly_hits;

-- Answer:
-- | hours | hits | most_clients |
-- | 84 | 9999 | 59 |
