-- How often was the air of each station bad for hours, and how long was the longest time?
--
-- A filter before the window: only readings above the limit make sessions, and one missing reading
-- does not end an episode.
CREATE STREAM IF NOT EXISTS air_quality (
    time TIMESTAMP NOT NULL, station TEXT, pm25 DOUBLE, temp DOUBLE,
    WATERMARK FOR time AS time
);

CREATE CONTINUOUS QUERY smog_episodes AS
    SELECT station, min(time) AS began, max(time) AS ended, count(*) AS readings
    FROM SESSION((SELECT time, station, pm25 FROM air_quality WHERE pm25 > 150),
                 time, INTERVAL '6 hours 1 microsecond', PARTITION => station)
    GROUP BY station, window_start, window_end;

\feed air_quality queries/data/air_quality.csv.gz
PUNCTUATE air_quality WHERE time < TIMESTAMP '2017-03-02';
FLUSH;
SELECT station, count(*) AS episodes,
    max(date_part('epoch', ended) - date_part('epoch', began)) / 3600 AS longest_hours,
    first_value(began ORDER BY ended - began DESC, began) AS longest_began
FROM smog_episodes GROUP BY station ORDER BY station;

-- Answer:
-- | station | episodes | longest_hours | longest_began |
-- | Aotizhongxin | 80 | 121 | 2017-01-02 13:00:00 |
-- | Dingling | 64 | 66 | 2016-03-15 15:00:00 |
-- | Huairou | 68 | 66 | 2016-03-15 17:00:00 |
