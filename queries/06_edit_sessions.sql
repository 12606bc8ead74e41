-- In how many sessions do people edit Wikipedia, and who had the longest one?
--
-- A session of a user ends when 30 minutes pass without an edit. A distance of exactly GAP starts a
-- new session, so that "exactly 30 minutes still belongs" is a gap a microsecond wider.
CREATE STREAM IF NOT EXISTS wiki_edits (
    time TIMESTAMP NOT NULL, channel TEXT, page TEXT, "user" TEXT, namespace TEXT,
    "isRobot" BOOLEAN, "isAnonymous" BOOLEAN, delta BIGINT, added BIGINT, deleted BIGINT,
    WATERMARK FOR time AS time - INTERVAL '1 second'
);

CREATE CONTINUOUS QUERY edit_sessions AS
    SELECT "user", window_start, window_end, count(*) AS edits
    FROM SESSION(wiki_edits, time, INTERVAL '30 minutes 1 microsecond', PARTITION => "user")
    GROUP BY "user", window_start, window_end;

\feed wiki_edits queries/data/wiki_edits.ndjson.gz
PUNCTUATE wiki_edits WHERE time < TIMESTAMP '2015-09-13';
FLUSH;
SELECT count(*) AS sessions, count(*) FILTER (WHERE edits >= 50) AS with_50_or_more,
    first_value("user" ORDER BY edits DESC) AS largest_user, max(edits) AS largest
FROM edit_sessions;

-- Answer:
-- | sessions | with_50_or_more | largest_user | largest |
-- | 6209 | 27 | TuanUt-Bot! | 1713 |
