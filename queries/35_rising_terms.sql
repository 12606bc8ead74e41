-- Which terms did people search for much more often than in the hour before? Told when the hour is over.
--
-- Terms that were not searched for at all before have an infinite ratio.
CREATE STREAM IF NOT EXISTS search_queries (
    time TIMESTAMP NOT NULL, "user" TEXT, query TEXT,
    WATERMARK FOR time AS time
);

CREATE CONTINUOUS QUERY words AS
    SELECT time, unnest(string_to_array(lower(query), ' ')) AS word FROM search_queries;

CREATE CONTINUOUS QUERY rising_words AS
    SELECT window_start, word, count_before, count_now, ratio
    FROM TREND(TUMBLE((SELECT time, word FROM words WHERE word <> ''), time, INTERVAL '1 hour'), ITEM => word,
        COMPARE_TO => 'previous', MIN_RATIO => 2, MIN_DIFFERENCE => 10);

\feed search_queries queries/data/search_queries.csv.gz
PUNCTUATE search_queries WHERE time < TIMESTAMP '1997-09-18';
FLUSH;
SELECT word, count_before, count_now, ratio FROM rising_words
WHERE window_start = TIMESTAMP '1997-09-16 15:00:00' ORDER BY count_now - count_before DESC, word;

-- Answer:
-- | word | count_before | count_now | ratio |
-- | vanderheiden | 0 | 27 | Infinity |
-- | angel | 0 | 18 | Infinity |
-- | stone | 0 | 18 | Infinity |
-- | the | 1 | 18 | 18 |
-- | "south | 0 | 13 | Infinity |
-- | "virginia" | 0 | 13 | Infinity |
-- | and | 5 | 18 | 3.6 |
-- | laurence | 0 | 13 | Infinity |
-- | margaret | 0 | 13 | Infinity |
-- | ridas" | 0 | 13 | Infinity |
-- | + | 0 | 11 | Infinity |
-- | clow | 0 | 11 | Infinity |
-- | west | 2 | 13 | 6.5 |
