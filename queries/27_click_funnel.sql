-- Which visitors of the web site go from its first page over the blog to a project, within an hour?
--
-- Between the three clicks there may be any others. The reluctant `any*?` takes the first page of the
-- blog that leads on to a project. WITHIN bounds what is kept of each visitor, so that the query needs
-- no more memory than an hour of clicks.
CREATE STREAM IF NOT EXISTS weblog (
    ts TIMESTAMP NOT NULL, ip TEXT, method TEXT, path TEXT, protocol TEXT,
    status INT, bytes BIGINT, referrer TEXT, agent TEXT,
    WATERMARK FOR ts AS ts - INTERVAL '1 minute'      -- the server wrote up to 59 s out of order
);

CREATE CONTINUOUS QUERY IF NOT EXISTS funnel WITH (require_bounded_state = true) AS
    SELECT * FROM weblog MATCH_RECOGNIZE (
        PARTITION BY ip ORDER BY ts
        MEASURES home.ts AS entered, blog.path AS blog, project.path AS project, count(*) AS clicks
        PATTERN (home any*? blog any*? project) WITHIN INTERVAL '1' HOUR
        DEFINE home AS path = '/', blog AS path LIKE '/blog/%', project AS path LIKE '/projects/%');

\feed weblog queries/data/weblog.ndjson.gz
PUNCTUATE weblog WHERE ts < TIMESTAMP '2015-05-22';    -- the recording has ended
FLUSH;
SELECT ip, entered, blog, project, clicks FROM funnel ORDER BY entered, ip;

-- Answer:
-- | ip | entered | blog | project | clicks |
-- | 66.249.73.135 | 2015-05-17 16:05:33 | /blog/tags/firefox?flav=rss20 | /projects/xdotool%3E | 5 |
-- | 66.249.73.135 | 2015-05-17 17:05:37 | /blog/geekery/solving-good-or-bad-problems.html | /projects/xdotool/xdotool.xhtml | 6 |
-- | 216.152.249.242 | 2015-05-19 05:05:04 | /blog/tags/xinerama | /projects/newpsm/ | 12 |
-- | 66.249.73.135 | 2015-05-19 16:05:41 | /blog/geekery/jquery-interface-/pppuffer.html | /projects/solaudio/ | 5 |
