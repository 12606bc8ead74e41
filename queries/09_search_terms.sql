-- Which terms did people search for much more often than in the hour before?
--
-- UNNEST turns each query into its terms, one row each, and keeps the time of the query. Terms per
-- hour are kept up to date; comparing two hours is a question asked once.
CREATE STREAM IF NOT EXISTS search_queries (
    time TIMESTAMP NOT NULL, "user" TEXT, query TEXT,
    WATERMARK FOR time AS time
);

CREATE CONTINUOUS QUERY terms AS
    SELECT time, unnest(string_to_array(lower(query), ' ')) AS term FROM search_queries;

CREATE CONTINUOUS QUERY terms_per_hour AS
    SELECT window_start AS hour, term, count(*) AS n
    FROM TUMBLE(terms, time, INTERVAL '1 hour')
    WHERE term <> ''
    GROUP BY window_start, window_end, term;

\feed search_queries queries/data/search_queries.csv.gz
PUNCTUATE search_queries WHERE time < TIMESTAMP '1997-09-18';
FLUSH;
SELECT term, coalesce(b.n, 0) AS before, a.n AS after
FROM (SELECT term, n FROM terms_per_hour WHERE hour = TIMESTAMP '1997-09-16 15:00:00') a
LEFT JOIN (SELECT term, n FROM terms_per_hour WHERE hour = TIMESTAMP '1997-09-16 14:00:00') b USING (term)
WHERE a.n - coalesce(b.n, 0) >= 10
ORDER BY a.n - coalesce(b.n, 0) DESC, term;

-- Answer:
-- | term | before | after |
-- | vanderheiden | 0 | 27 |
-- | angel | 0 | 18 |
-- | stone | 0 | 18 |
-- | the | 1 | 18 |
-- | "south | 0 | 13 |
-- | "virginia" | 0 | 13 |
-- | and | 5 | 18 |
-- | laurence | 0 | 13 |
-- | margaret | 0 | 13 |
-- | ridas" | 0 | 13 |
-- | + | 0 | 11 |
-- | clow | 0 | 11 |
-- | west | 2 | 13 |
