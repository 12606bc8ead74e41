//! Asks what the queries of Nexmark ask in SQL that knows no windows and no continuous queries.
//!
//! Windows are arithmetic on times, sessions are distances between neighbours. Where the text of the query
//! is plain SQL already, it is its own batch question.

/// The question of a query as one SELECT; `None`: the text of the query itself. `middle` is the number
/// of bids before the table of q13 changes.
pub(super) fn question(number: usize, middle: u64) -> Option<String> {
    let text = match number {
        5 => HOT_ITEMS.to_string(),
        7 => format!(
            "SELECT auction, bidder, price, date_time FROM (
                 SELECT *, rank() OVER (PARTITION BY {TEN} ORDER BY price DESC) AS place FROM bid)
             WHERE place = 1"
        ),
        8 => format!(
            "SELECT DISTINCT p.id, p.name, p.ten AS window_start
             FROM (SELECT id, name, {TEN} AS ten FROM person) AS p
             JOIN (SELECT seller, {TEN} AS ten FROM auction) AS a ON p.id = a.seller AND p.ten = a.ten"
        ),
        11 => SESSIONS.to_string(),
        12 => "SELECT bidder, count(*) AS bid_count, ten AS window_start, ten + INTERVAL '10' SECOND AS window_end
               FROM (SELECT bidder, date_bin(INTERVAL '10' SECOND, _ingest_time) AS ten FROM bid_arrivals)
               GROUP BY bidder, ten"
            .to_string(),
        13 => format!(
            "SELECT auction, bidder, price, date_time,
                 CASE WHEN _offset >= {middle} AND mod(auction, 2) = 0 THEN 'changed'
                     ELSE 'value ' || mod(auction, 10000) END AS value
             FROM bid"
        ),
        18 => "SELECT auction, bidder, price, channel, url, date_time, extra FROM (
                   SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, _offset) AS nth
                   FROM bid)
               WHERE nth = 1"
            .to_string(),
        19 => "SELECT auction, bidder, price, channel, url, date_time, extra, place FROM (
                   SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, _offset) AS place FROM bid)
               WHERE place <= 10"
            .to_string(),
        _ => return None,
    };
    Some(text)
}

/// Whether a query answers at any time what a batch over the rows so far answers: no window holds back.
pub(super) fn at_any_time(number: usize) -> bool {
    ![5, 7, 8, 11, 12].contains(&number)
}

/// The ten seconds that a row belongs to.
const TEN: &str = "date_bin(INTERVAL '10' SECOND, date_time)";

const HOT_ITEMS: &str = "
    WITH pairs AS (
        SELECT auction, date_bin(INTERVAL '2' SECOND, date_time) - shift AS window_start
        FROM bid CROSS JOIN (VALUES (INTERVAL '0' SECOND), (INTERVAL '2' SECOND), (INTERVAL '4' SECOND),
            (INTERVAL '6' SECOND), (INTERVAL '8' SECOND)) AS shifts(shift)),
    counted AS (SELECT window_start, auction, count(*) AS num FROM pairs GROUP BY window_start, auction),
    ranked AS (SELECT *, rank() OVER (PARTITION BY window_start ORDER BY num DESC) AS place FROM counted)
    SELECT window_start, window_start + INTERVAL '10' SECOND AS window_end, auction, num
    FROM ranked WHERE place = 1";

const SESSIONS: &str = "
    WITH marked AS (
        SELECT bidder, date_time, _offset AS nth, CASE WHEN lag(date_time) OVER
            (PARTITION BY bidder ORDER BY date_time, _offset) + INTERVAL '10' SECOND > date_time
            THEN 0 ELSE 1 END AS first
        FROM bid),
    numbered AS (
        SELECT bidder, date_time, sum(first) OVER
            (PARTITION BY bidder ORDER BY date_time, nth ROWS UNBOUNDED PRECEDING) AS session
        FROM marked)
    SELECT bidder, count(*) AS bid_count, min(date_time) AS window_start,
        max(date_time) + INTERVAL '10' SECOND AS window_end
    FROM numbered GROUP BY bidder, session";
