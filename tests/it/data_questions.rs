//! Answers the questions that are known about recordings of real events, and compares.
//!
//! Each recording has a few questions with known answers, computed by two other programs. What a
//! continuous query can say is asked as one; joins, and comparisons with rows before, are asked once
//! with SELECT. Answered by `queries/` and not here again: web log 1 and 2, stocks 1, air quality 3,
//! edits 3, earthquakes 3, searches 2, names 3, requests of citizens 3.
//!
//! Recordings that may not be shipped are looked for beside the project; without them their test says
//! so and ends.

#![expect(clippy::too_many_lines, reason = "a question stands beside its known answer")]

use std::fs::File;
use std::io::Read;

use flate2::read::GzDecoder;

use crate::recordings::{Lab, beside, shipped};

#[tokio::test(flavor = "multi_thread")]
async fn web_log() {
    let mut lab = Lab::new();
    lab.run("CREATE STREAM weblog (ts TIMESTAMP)").await;
    lab.feed("weblog", &shipped("weblog.ndjson.gz")).await;
    let times = "SELECT ts FROM weblog ORDER BY _offset";
    let bounds = ["", " - INTERVAL '10' SECOND", " - INTERVAL '30' SECOND"];
    lab.bounds("TIMESTAMP", times, &bounds).await;
    let sql = "SELECT (SELECT count(*) FROM bound_0 WHERE _late) AS lost_0,
        (SELECT max(date_part('epoch', highest) - date_part('epoch', ts)) FROM (SELECT ts, max(ts) OVER
            (ORDER BY _offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest FROM weblog)) AS worst,
        (SELECT count(*) FROM bound_1 WHERE _late) AS lost_1, (SELECT count(*) FROM bound_2 WHERE _late) AS lost_2";
    lab.check(
        "disorder of the web log",
        sql,
        r#"
| late | worst_seconds | lost_at_10s | lost_at_30s |
|---|---|---|---|
| 9447 | 59 | 7812 | 4499 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clicks_with_heartbeats() {
    let Some(file) = beside("clicks/usagov_clicks_1.ndjson.gz") else { return };
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM clicks (t BIGINT, u TEXT, c TEXT, WATERMARK FOR t AS t - 10);
         CREATE STREAM records (t BIGINT, _heartbeat_ BIGINT);
         CREATE CONTINUOUS QUERY per_five_minutes AS
             SELECT window_start, count(*) AS clicks, count(DISTINCT u) AS urls
             FROM TUMBLE(clicks, t, 300) GROUP BY window_start, window_end;
         CREATE CONTINUOUS QUERY countries AS
             SELECT coalesce(c, '(unknown)') AS country, count(*) AS clicks FROM clicks GROUP BY 1;",
    )
    .await;
    // A record without the event time is no click: it becomes a dead letter.
    assert_eq!(lab.feed("clicks", &file).await, (1_907, 61));
    lab.feed("records", &file).await;
    lab.run("PUNCTUATE clicks WHERE t < 1400000000; FLUSH").await;
    let sql =
        "SELECT to_timestamp_seconds(window_start), clicks, urls FROM per_five_minutes ORDER BY 1";
    lab.check(
        "clicks per five minutes",
        sql,
        r#"
| window_start | clicks | urls |
|---|---|---|
| 2012-03-16 18:40:00 | 288 | 98 |
| 2012-03-16 18:45:00 | 325 | 115 |
| 2012-03-16 18:50:00 | 356 | 119 |
| 2012-03-16 18:55:00 | 283 | 113 |
| 2012-03-16 19:00:00 | 283 | 106 |
| 2012-03-16 19:05:00 | 324 | 91 |
| 2012-03-16 19:10:00 | 48 | 34 |
"#,
    )
    .await;
    let sql =
        "SELECT country, clicks, round(100.0 * clicks / (SELECT sum(clicks) FROM countries), 3)
        FROM countries WHERE clicks > 0.02 * (SELECT sum(clicks) FROM countries) ORDER BY 2 DESC";
    lab.check(
        "countries with many clicks",
        sql,
        r#"
| country | clicks | percent |
|---|---|---|
| US | 1233 | 64.657 |
| (unknown) | 299 | 15.679 |
| GB | 39 | 2.045 |
"#,
    )
    .await;
    let sql =
        "SELECT count(*) FILTER (WHERE t < highest), max(highest - t) FILTER (WHERE t < highest),
        count(_heartbeat_), count(*) FILTER (WHERE t < beat) FROM (SELECT t, _heartbeat_,
        max(t) OVER w AS highest, max(_heartbeat_) OVER w AS beat FROM records
        WINDOW w AS (ORDER BY _offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING))";
    lab.check(
        "disorder of clicks and heartbeats",
        sql,
        r#"
| late_clicks | worst_seconds | heartbeats | clicks_older_than_a_heartbeat |
|---|---|---|---|
| 262 | 3 | 61 | 47 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn network_flows() {
    let (Some(conn), Some(http)) =
        (beside("netflow/conn.ndjson.gz"), beside("netflow/http.ndjson.gz"))
    else {
        return;
    };
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM conn (ts DOUBLE, uid TEXT, orig_h TEXT, orig_ip_bytes BIGINT, resp_ip_bytes BIGINT);
         CREATE STREAM http (ts DOUBLE, uid TEXT);
         CREATE CONTINUOUS QUERY sources AS
             SELECT orig_h, count(*) AS conns, sum(orig_ip_bytes) AS bytes_out,
                 sum(resp_ip_bytes) AS bytes_in FROM conn GROUP BY orig_h;
         CREATE CONTINUOUS QUERY hours AS
             SELECT floor(ts / 3600) AS hour, count(*) AS conns, count(DISTINCT orig_h) AS sources
             FROM conn GROUP BY floor(ts / 3600);
         CREATE CONTINUOUS QUERY days AS
             SELECT orig_h, bool_or(ts < 1713571200) AS first, bool_or(ts >= 1713571200) AS second
             FROM conn GROUP BY orig_h;
         CREATE CONTINUOUS QUERY difference AS
             SELECT count(*) FILTER (WHERE first AND NOT second) AS only_19,
                 count(*) FILTER (WHERE second AND NOT first) AS only_20,
                 count(*) FILTER (WHERE first AND second) AS both_days FROM days;",
    )
    .await;
    lab.feed("conn", &conn).await;
    lab.feed("http", &http).await;
    lab.run("FLUSH").await;
    let sql = "SELECT orig_h, conns, bytes_out, bytes_in FROM sources ORDER BY conns DESC, orig_h LIMIT 10";
    lab.check(
        "sources of most connections",
        sql,
        r#"
| orig_h | conns | bytes_out | bytes_in |
|---|---|---|---|
| 120.245.134.197 | 10882 | 652920 | 435280 |
| 64.225.56.201 | 3755 | 1088511 | 57425573 |
| 165.154.254.36 | 1981 | 104797 | 80805 |
| 94.232.45.152 | 1920 | 115200 | 76800 |
| 73.54.23.243 | 634 | 184964 | 343795 |
| 80.66.66.145 | 612 | 24480 | 24480 |
| 170.64.237.193 | 466 | 958412 | 1218094 |
| 88.218.249.242 | 412 | 852124 | 978428 |
| 79.124.62.78 | 403 | 32240 | 16120 |
| 79.124.62.130 | 343 | 27440 | 13720 |
"#,
    )
    .await;
    let sql = "SELECT to_timestamp_seconds(CAST(hour * 3600 AS BIGINT)), conns, sources FROM hours
        WHERE hour * 3600 >= 1713571200 AND hour * 3600 < 1713592800 ORDER BY 1";
    lab.check(
        "sources per hour",
        sql,
        r#"
| hour | conns | sources |
|---|---|---|
| 2024-04-20 00:00:00 | 1777 | 447 |
| 2024-04-20 01:00:00 | 1571 | 502 |
| 2024-04-20 02:00:00 | 1348 | 494 |
| 2024-04-20 03:00:00 | 1654 | 564 |
| 2024-04-20 04:00:00 | 1722 | 504 |
| 2024-04-20 05:00:00 | 1668 | 547 |
"#,
    )
    .await;
    let sql =
        "SELECT count(*) FILTER (WHERE c.uid IS NOT NULL), count(*) FILTER (WHERE c.uid IS NULL),
        round(max(h.ts - c.ts), 6) FROM http h LEFT JOIN conn c ON h.uid = c.uid";
    lab.check(
        "requests and their connections",
        sql,
        r#"
| matched | unmatched | longest_gap |
|---|---|---|
| 13688 | 2 | 62.54877 |
"#,
    )
    .await;
    let sql = "SELECT only_19, only_20, both_days FROM difference";
    lab.check(
        "sources of one day only",
        sql,
        r#"
| only_19 | only_20 | both_days |
|---|---|---|
| 5580 | 3998 | 2049 |
"#,
    )
    .await;
    let times = "SELECT to_timestamp_micros(CAST(round(ts * 1000000) AS BIGINT)) FROM conn ORDER BY _offset";
    let bounds = [
        "",
        " - INTERVAL '1' MINUTE",
        " - INTERVAL '5' MINUTE",
        " - INTERVAL '10' MINUTE",
        " - INTERVAL '60' MINUTE",
    ];
    lab.bounds("TIMESTAMP", times, &bounds).await;
    let sql = "SELECT (SELECT count(*) FROM bound_0 WHERE _late) AS lost_0,
        (SELECT round(max(highest - ts), 3) FROM (SELECT ts, max(ts) OVER
            (ORDER BY _offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest FROM conn)) AS worst,
        (SELECT count(*) FROM bound_1 WHERE _late) AS lost_1, (SELECT count(*) FROM bound_2 WHERE _late) AS lost_2,
        (SELECT count(*) FROM bound_3 WHERE _late) AS lost_3, (SELECT count(*) FROM bound_4 WHERE _late) AS lost_4";
    lab.check(
        "disorder of connections",
        sql,
        r#"
| late | worst_seconds | lost_1min | lost_5min | lost_10min | lost_60min |
|---|---|---|---|---|---|
| 27744 | 3900.43 | 4748 | 116 | 116 | 66 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes() {
    let mut lab = Lab::new();
    let columns = "ts BIGINT NOT NULL, collector TEXT, peer_ip TEXT, peer_asn BIGINT, kind TEXT,
        prefix TEXT, WATERMARK FOR ts AS ts";
    lab.run(&format!(
        "CREATE STREAM tokyo ({columns}); CREATE STREAM johannesburg ({columns});
         CREATE CONTINUOUS QUERY updates AS SELECT * FROM tokyo UNION ALL SELECT * FROM johannesburg;
         CREATE CONTINUOUS QUERY peers AS
             SELECT collector, peer_ip, peer_asn, count(*) FILTER (WHERE kind = 'A') AS announced,
                 count(*) FILTER (WHERE kind = 'W') AS withdrawn
             FROM updates GROUP BY collector, peer_ip, peer_asn;
         CREATE CONTINUOUS QUERY prefixes AS
             SELECT prefix, bool_or(collector = 'rrc06') AS a,
                 bool_or(collector = 'route-views.jinx') AS b
             FROM updates WHERE kind = 'A' AND ts BETWEEN 1427846430 AND 1427846699 GROUP BY prefix;
         CREATE CONTINUOUS QUERY difference AS
             SELECT count(*) FILTER (WHERE a AND NOT b) AS only_rrc06,
                 count(*) FILTER (WHERE b AND NOT a) AS only_jinx,
                 count(*) FILTER (WHERE a AND b) AS both_collectors FROM prefixes;
         CREATE CONTINUOUS QUERY flapping AS
             SELECT window_start AS minute, prefix, count(*) AS n FROM TUMBLE(tokyo, ts, 60)
             GROUP BY window_start, window_end, prefix HAVING count(*) >= 8;"
    ))
    .await;
    lab.feed("tokyo", &shipped("bgp_rrc06.csv.gz")).await;
    lab.feed("johannesburg", &shipped("bgp_route-views.jinx.csv.gz")).await;
    lab.run("PUNCTUATE tokyo WHERE ts < 1430000000; FLUSH").await;
    let sql = "SELECT collector, peer_ip, peer_asn, announced, withdrawn FROM peers ORDER BY 1, 2";
    lab.check(
        "messages of each peer",
        sql,
        r#"
| collector | peer_ip | peer_asn | announced | withdrawn |
|---|---|---|---|---|
| route-views.jinx | 196.223.14.25 | 10474 | 36 | 29 |
| route-views.jinx | 196.223.14.46 | 37105 | 38 | 38 |
| route-views.jinx | 196.223.14.55 | 30844 | 8075 | 373 |
| route-views.jinx | 2001:43f8:1f0::46 | 37105 | 11 | 11 |
| rrc06 | 2001:200:0:fe00::6249:0 | 25152 | 275 | 16 |
| rrc06 | 202.249.2.185 | 25152 | 1160 | 106 |
"#,
    )
    .await;
    let sql = "SELECT only_rrc06, only_jinx, both_collectors FROM difference";
    lab.check(
        "prefixes of one collector only",
        sql,
        r#"
| only_rrc06 | only_jinx | both_collectors |
|---|---|---|
| 150 | 175 | 284 |
"#,
    )
    .await;
    let sql = "SELECT minute, prefix, n FROM flapping ORDER BY minute, n DESC, prefix";
    lab.check(
        "flapping prefixes",
        sql,
        r#"
| minute | prefix | n |
|---|---|---|
| 1427846400 | 2a00:bdc0:e004::/48 | 16 |
| 1427846400 | 2620:110:9000::/44 | 9 |
| 1427846400 | 2a02:2158::/32 | 9 |
| 1427846400 | 176.240.64.0/22 | 8 |
| 1427846520 | 2a00:bdc0:e004::/48 | 18 |
| 1427846640 | 2a00:bdc0:e003::/48 | 20 |
| 1427846640 | 2402:ef23:a::/48 | 10 |
| 1427846640 | 2620:110:9000::/44 | 10 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn name_lookups() {
    let Some(file) = beside("dns/dns.ndjson.gz") else { return };
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM dns (ts TIMESTAMP, query TEXT, \"id.orig_h\" TEXT, rcode_name TEXT,
             WATERMARK FOR ts AS ts - INTERVAL '15' MINUTE);
         CREATE CONTINUOUS QUERY names AS
             SELECT query, count(*) AS n, count(DISTINCT \"id.orig_h\") AS clients FROM dns
             WHERE query IS NOT NULL GROUP BY query;
         CREATE CONTINUOUS QUERY minutes AS
             SELECT window_start AS minute, count(*) AS n, count(DISTINCT \"id.orig_h\") AS clients,
                 count(*) FILTER (WHERE rcode_name = 'NXDOMAIN') AS nxdomain
             FROM TUMBLE(dns, ts, INTERVAL '1' MINUTE) GROUP BY window_start, window_end;",
    )
    .await;
    lab.feed("dns", &file).await;
    lab.run("PUNCTUATE dns WHERE ts < TIMESTAMP '2018-03-25'; FLUSH").await;
    let sql = "SELECT query, n, clients FROM names ORDER BY n DESC, query LIMIT 10";
    lab.check(
        "names asked for most",
        sql,
        r#"
| query | n | clients |
|---|---|---|
| ise.wrccdc.org | 22160 | 15 |
| * | 3834 | 6 |
| videosearch.ubuntu.com | 1088 | 14 |
| arena1.wrccdc.cpp.edu | 766 | 14 |
| docs.google.com | 760 | 8 |
| snozberry.oompa.loompa | 702 | 7 |
| store.oompa.loompa | 646 | 7 |
| sweettarts.oompa.loompa | 434 | 7 |
| detectportal.firefox.com | 420 | 12 |
| titan.oompa.loompa | 382 | 7 |
"#,
    )
    .await;
    let sql = "SELECT minute, n, clients, nxdomain FROM minutes ORDER BY minute LIMIT 10";
    lab.check(
        "lookups per minute",
        sql,
        r#"
| minute | n | clients | nxdomain |
|---|---|---|---|
| 2018-03-24 17:15:00 | 1355 | 39 | 38 |
| 2018-03-24 17:16:00 | 2396 | 42 | 108 |
| 2018-03-24 17:17:00 | 2660 | 39 | 103 |
| 2018-03-24 17:18:00 | 2708 | 47 | 144 |
| 2018-03-24 17:19:00 | 2068 | 42 | 98 |
| 2018-03-24 17:20:00 | 3544 | 44 | 210 |
| 2018-03-24 17:21:00 | 2772 | 47 | 136 |
| 2018-03-24 17:22:00 | 2620 | 39 | 100 |
| 2018-03-24 17:23:00 | 2396 | 39 | 86 |
| 2018-03-24 17:24:00 | 2350 | 41 | 98 |
"#,
    )
    .await;
    let bounds = [
        "",
        " - INTERVAL '1' SECOND",
        " - INTERVAL '5' SECOND",
        " - INTERVAL '10' SECOND",
        " - INTERVAL '30' SECOND",
    ];
    lab.bounds("TIMESTAMP", "SELECT ts FROM dns ORDER BY _offset", &bounds).await;
    // Times here have microseconds; the source has nanoseconds.
    let sql = "SELECT (SELECT count(*) FROM bound_0 WHERE _late) AS lost_0,
        (SELECT round(max(CAST(highest AS BIGINT) - CAST(ts AS BIGINT)) / 1000000.0, 3) FROM (SELECT ts, max(ts) OVER
            (ORDER BY _offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest FROM dns)) AS worst,
        (SELECT count(*) FROM bound_1 WHERE _late) AS lost_1, (SELECT count(*) FROM bound_2 WHERE _late) AS lost_2,
        (SELECT count(*) FROM bound_3 WHERE _late) AS lost_3, (SELECT count(*) FROM bound_4 WHERE _late) AS lost_4";
    lab.check(
        "disorder of lookups",
        sql,
        r#"
| late | worst_seconds | lost_1s | lost_5s | lost_10s | lost_30s |
|---|---|---|---|---|---|
| 13003 | 670.535 | 9454 | 9330 | 6824 | 2852 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_prices() {
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM stocks (symbol TEXT, date DATE, close DOUBLE);
         CREATE CONTINUOUS QUERY changes AS
             SELECT symbol, window_id, max(date) AS date, last_value(close) / first_value(close) AS q
             FROM COUNT_WINDOW(stocks, 2, SLIDE => 1, PARTITION => symbol) GROUP BY symbol, window_id;
         CREATE CONTINUOUS QUERY averages AS
             SELECT symbol, window_id, max(date) AS date, avg(close) AS ma10
             FROM COUNT_WINDOW(stocks, 10, SLIDE => 1, PARTITION => symbol) GROUP BY symbol, window_id;",
    )
    .await;
    lab.feed("stocks", &shipped("stocks_daily.csv.gz")).await;
    lab.run("FLUSH").await;
    let sql =
        "SELECT symbol, count(*), first_value(date ORDER BY q DESC), round(100 * (max(q) - 1), 4)
        FROM changes WHERE q >= 1.05 GROUP BY symbol ORDER BY symbol";
    lab.check(
        "rises of five per cent",
        sql,
        r#"
| symbol | days | largest_on | largest_percent |
|---|---|---|---|
| AMZN | 11 | 2015-04-24 | 14.1311 |
| FB | 13 | 2013-07-25 | 29.6115 |
| GOOG | 5 | 2015-07-17 | 16.0524 |
| NFLX | 42 | 2013-01-24 | 42.2235 |
"#,
    )
    .await;
    let sql = "WITH d AS (SELECT symbol, date, ma10 - lag(ma10) OVER (PARTITION BY symbol ORDER BY date) AS d
            FROM averages)
        SELECT count(*), min(a.date), max(a.date) FROM d a JOIN d g ON a.date = g.date
        WHERE a.symbol = 'AMZN' AND g.symbol = 'GOOG' AND a.d > 0 AND g.d < 0 AND a.date >= DATE '2016-01-01'";
    lab.check(
        "one average up and the other down",
        sql,
        r#"
| days | first_day | last_day |
|---|---|---|
| 37 | 2016-03-07 | 2016-11-30 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_trades() {
    let (Some(trades), Some(blocks)) =
        (beside("token_trades/trades.csv.gz"), beside("token_trades/blocks.csv.gz"))
    else {
        return;
    };
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM trades (block BIGINT, forward_asset TEXT); CREATE STREAM blocks (block BIGINT, ts BIGINT);
         CREATE CONTINUOUS QUERY trades_of_blocks AS
             SELECT block, count(*) AS trades, count(DISTINCT forward_asset) AS forward_assets
             FROM trades GROUP BY block;",
    )
    .await;
    lab.feed("trades", &trades).await;
    lab.feed("blocks", &blocks).await;
    lab.run("FLUSH").await;
    let sql = "SELECT to_char(to_timestamp_seconds(ts), '%Y-%m'), count(*)
        FROM trades JOIN blocks ON trades.block = blocks.block GROUP BY 1 ORDER BY 1";
    lab.check(
        "trades per month",
        sql,
        r#"
| month | trades |
|---|---|
| 2016-09 | 606 |
| 2016-10 | 2010 |
| 2016-11 | 1136 |
| 2016-12 | 1052 |
| 2017-01 | 1748 |
| 2017-02 | 3347 |
| 2017-03 | 3259 |
| 2017-04 | 2060 |
| 2017-05 | 1588 |
| 2017-06 | 1104 |
| 2017-07 | 3799 |
| 2017-08 | 1668 |
| 2017-09 | 948 |
| 2017-10 | 819 |
| 2017-11 | 337 |
| 2017-12 | 148 |
| 2018-01 | 295 |
| 2018-02 | 50 |
"#,
    )
    .await;
    let sql = "SELECT count(*), count(DISTINCT block), min(block), max(block) FROM trades
        WHERE block NOT IN (SELECT block FROM blocks)";
    lab.check(
        "trades without a block",
        sql,
        r#"
| trades | blocks | first_block | last_block |
|---|---|---|---|
| 64 | 28 | 507205 | 507452 |
"#,
    )
    .await;
    let times = "SELECT ts FROM blocks ORDER BY _offset";
    lab.bounds("BIGINT", times, &["", " - 600", " - 3600"]).await;
    let sql = "SELECT (SELECT count(*) FROM bound_0 WHERE _late) AS lost_0,
        (SELECT max(highest - ts) FROM (SELECT ts, max(ts) OVER
            (ORDER BY _offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest FROM blocks)) AS worst,
        (SELECT count(*) FROM bound_1 WHERE _late) AS lost_1, (SELECT count(*) FROM bound_2 WHERE _late) AS lost_2";
    lab.check(
        "disorder of blocks",
        sql,
        r#"
| late | worst_seconds | lost_10min | lost_1h |
|---|---|---|---|
| 487 | 545 | 0 | 0 |
"#,
    )
    .await;
    let sql = "SELECT block, trades, forward_assets FROM trades_of_blocks ORDER BY trades DESC, block LIMIT 10";
    lab.check(
        "blocks with most trades",
        sql,
        r#"
| block | trades | forward_assets |
|---|---|---|
| 453684 | 55 | 47 |
| 464200 | 54 | 45 |
| 455401 | 36 | 25 |
| 453061 | 35 | 33 |
| 463239 | 35 | 33 |
| 462163 | 32 | 29 |
| 461380 | 28 | 26 |
| 462099 | 28 | 25 |
| 476917 | 28 | 21 |
| 454565 | 27 | 27 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn currency_ticks() {
    let Some(file) = beside("crypto_ticks/xrp_eth_trades.csv.gz") else { return };
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM ticks (ts_ms BIGINT, side TEXT, price DOUBLE, amount DOUBLE, WATERMARK FOR ts_ms AS ts_ms);
         CREATE CONTINUOUS QUERY candles AS
             SELECT window_start, first_value(price) AS open, max(price) AS high, min(price) AS low,
                 last_value(price) AS close, sum(amount) AS amount, count(*) AS trades
             FROM TUMBLE(ticks, ts_ms, 600000) GROUP BY window_start, window_end;
         CREATE CONTINUOUS QUERY thousands AS
             SELECT window_id, min(ts_ms) AS first_ms, max(ts_ms) AS last_ms,
                 sum(price * amount) / sum(amount) AS vwap
             FROM COUNT_WINDOW(ticks, 1000) GROUP BY window_id;
         CREATE CONTINUOUS QUERY sold AS
             SELECT window_start, window_end, sum(amount) AS sold FROM HOP(ticks, ts_ms, 600000, 1800000)
             WHERE side = 'sell' GROUP BY window_start, window_end;",
    )
    .await;
    lab.feed("ticks", &file).await;
    lab.run("PUNCTUATE ticks WHERE ts_ms < 1600000000000; FLUSH").await;
    let sql = "SELECT to_timestamp_millis(window_start) AS start, open, high, low, close, round(amount, 6), trades
        FROM candles WHERE window_start >= 1570881600000 AND window_start < 1570885200000 ORDER BY 1";
    lab.check(
        "candles",
        sql,
        r#"
| start | open | high | low | close | amount | trades |
|---|---|---|---|---|---|---|
| 2019-10-12 12:00:00 | 0.00149016 | 0.00149197 | 0.00148819 | 0.00149197 | 2052 | 19 |
| 2019-10-12 12:10:00 | 0.00149123 | 0.00149214 | 0.00149008 | 0.00149214 | 879 | 12 |
| 2019-10-12 12:20:00 | 0.00149214 | 0.00149487 | 0.00149123 | 0.00149321 | 10719 | 42 |
| 2019-10-12 12:30:00 | 0.00149321 | 0.00149354 | 0.00149155 | 0.00149155 | 5910 | 25 |
| 2019-10-12 12:40:00 | 0.00149188 | 0.00149561 | 0.00149148 | 0.00149312 | 2476 | 23 |
| 2019-10-12 12:50:00 | 0.00149363 | 0.00149913 | 0.00149312 | 0.0014978 | 21855 | 63 |
"#,
    )
    .await;
    let sql = "SELECT window_id + 1, first_ms, last_ms, round(vwap, 10) FROM thousands ORDER BY 1";
    lab.check(
        "price of every thousand trades",
        sql,
        r#"
| window_no | first_ms | last_ms | vwap |
|---|---|---|---|
| 1 | 1570752011620 | 1570769052778 | 0.0014151949 |
| 2 | 1570769052778 | 1570771979911 | 0.0014136890 |
| 3 | 1570772003874 | 1570785601841 | 0.0014317754 |
| 4 | 1570785609579 | 1570804223564 | 0.0014527024 |
| 5 | 1570804223670 | 1570815720519 | 0.0014795086 |
| 6 | 1570815720538 | 1570841048797 | 0.0014839666 |
| 7 | 1570841050197 | 1570862232483 | 0.0014885511 |
| 8 | 1570862232483 | 1570883830445 | 0.0014924902 |
| 9 | 1570883830970 | 1570906831449 | 0.0014941066 |
| 10 | 1570906831665 | 1570922153998 | 0.0015136350 |
| 11 | 1570922163672 | 1570943900228 | 0.0015156301 |
| 12 | 1570943901320 | 1570957552484 | 0.0015297174 |
"#,
    )
    .await;
    let sql =
        "SELECT to_timestamp_millis(window_start), to_timestamp_millis(window_end), round(sold, 6)
        FROM sold ORDER BY sold DESC LIMIT 3";
    lab.check(
        "half hours with most sold",
        sql,
        r#"
| start | end | sold |
|---|---|---|
| 2019-10-11 04:30:00 | 2019-10-11 05:00:00 | 210627 |
| 2019-10-11 04:20:00 | 2019-10-11 04:50:00 | 190466 |
| 2019-10-11 04:40:00 | 2019-10-11 05:10:00 | 182049 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn air_quality() {
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM air (time TIMESTAMP NOT NULL, station TEXT, pm25 DOUBLE, WATERMARK FOR time AS time);
         CREATE CONTINUOUS QUERY gaps AS
             SELECT station, window_start, count(*) AS hours
             FROM SESSION((SELECT time, station FROM air WHERE pm25 IS NULL), time,
                 INTERVAL '1 hour 1 microsecond', PARTITION => station)
             GROUP BY station, window_start, window_end;
         CREATE CONTINUOUS QUERY days AS
             SELECT station, window_id, max(time) AS time, avg(pm25) AS avg24, count(pm25) AS readings
             FROM COUNT_WINDOW(air, 24, SLIDE => 1, PARTITION => station) GROUP BY station, window_id;",
    )
    .await;
    lab.feed("air", &shipped("air_quality.csv.gz")).await;
    lab.run("PUNCTUATE air WHERE time < TIMESTAMP '2018-01-01'; FLUSH").await;
    let sql = "SELECT station, sum(hours), max(hours) FROM gaps GROUP BY station ORDER BY station";
    lab.check(
        "hours without a reading",
        sql,
        r#"
| station | missing_hours | longest_gap_hours |
|---|---|---|
| Aotizhongxin | 179 | 28 |
| Dingling | 283 | 72 |
| Huairou | 138 | 21 |
"#,
    )
    .await;
    let sql =
        "SELECT time, round(avg24, 6), readings FROM days WHERE station = 'Dingling' AND time IN
        (TIMESTAMP '2016-12-20', TIMESTAMP '2016-12-21', TIMESTAMP '2016-12-22') ORDER BY time";
    lab.check(
        "average of 24 hours",
        sql,
        r#"
| time | avg24 | readings |
|---|---|---|
| 2016-12-20 00:00:00 | 169.875 | 24 |
| 2016-12-21 00:00:00 | 285.791667 | 24 |
| 2016-12-22 00:00:00 | 388.333333 | 24 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flights() {
    let (Some(flights), Some(weather), Some(airlines)) = (
        beside("flights/flights_2013_01.csv.gz"),
        beside("flights/weather_2013_01.csv.gz"),
        beside("flights/airlines.csv"),
    ) else {
        return;
    };
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM flights (sched_dep TIMESTAMP, actual_dep TIMESTAMP, dep_delay DOUBLE, carrier TEXT, origin TEXT);
         CREATE STREAM weather (time TIMESTAMP, origin TEXT, visib DOUBLE);
         CREATE STREAM airlines_read (carrier TEXT, name TEXT);
         CREATE TABLE airlines (carrier TEXT PRIMARY KEY, name TEXT);",
    )
    .await;
    lab.feed("flights", &flights).await;
    lab.feed("weather", &weather).await;
    lab.feed("airlines_read", &airlines).await;
    lab.run("INSERT INTO airlines SELECT carrier, name FROM airlines_read").await;
    let sql =
        "SELECT name, count(*), round(avg(dep_delay), 6) FROM flights JOIN airlines USING (carrier)
        WHERE actual_dep IS NOT NULL GROUP BY name ORDER BY 2 DESC";
    lab.check(
        "departures of each airline",
        sql,
        r#"
| name | departures | mean_delay |
|---|---|---|
| United Air Lines Inc. | 4605 | 8.326167 |
| JetBlue Airways | 4418 | 9.493436 |
| ExpressJet Airlines Inc. | 3989 | 24.228879 |
| Delta Air Lines Inc. | 3661 | 3.849768 |
| American Airlines Inc. | 2735 | 6.932358 |
| Envoy Air | 2206 | 6.485494 |
| US Airways Inc. | 1555 | 1.817363 |
| Endeavor Air Inc. | 1498 | 16.88251 |
| Southwest Airlines Co. | 985 | 9.137056 |
| AirTran Airways Corporation | 324 | 1.972222 |
| Virgin America | 315 | 1.063492 |
| Alaska Airlines Inc. | 62 | 7.354839 |
| Frontier Airlines Inc. | 59 | 10 |
| Mesa Airlines Inc. | 39 | 15.846154 |
| Hawaiian Airlines Inc. | 31 | 54.387097 |
| SkyWest Airlines Inc. | 1 | 67 |
"#,
    )
    .await;
    let sql = "SELECT count(*) FILTER (WHERE w.origin IS NOT NULL), count(*) FILTER (WHERE w.origin IS NULL),
        round(avg(dep_delay) FILTER (WHERE visib < 3), 6), round(avg(dep_delay) FILTER (WHERE visib >= 3), 6)
        FROM flights f LEFT JOIN weather w ON f.origin = w.origin AND date_trunc('hour', f.sched_dep) = w.time";
    lab.check(
        "delays in bad weather",
        sql,
        r#"
| with_weather | without_weather | delay_low_visibility | delay_else |
|---|---|---|---|
| 26952 | 52 | 17.069114 | 9.516742 |
"#,
    )
    .await;
    let bounds =
        ["", " - INTERVAL '15' MINUTE", " - INTERVAL '60' MINUTE", " - INTERVAL '180' MINUTE"];
    lab.bounds("TIMESTAMP", "SELECT sched_dep FROM flights ORDER BY _offset", &bounds).await;
    let sql = "SELECT (SELECT count(*) FROM bound_0 WHERE _late) AS lost_0,
        (SELECT max(date_part('epoch', highest) - date_part('epoch', t)) / 60 FROM (SELECT sched_dep AS t,
            max(sched_dep) OVER (ORDER BY _offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest
            FROM flights)) AS worst,
        (SELECT count(*) FROM bound_1 WHERE _late) AS lost_1, (SELECT count(*) FROM bound_2 WHERE _late) AS lost_2,
        (SELECT count(*) FROM bound_3 WHERE _late) AS lost_3";
    lab.check(
        "disorder of flights",
        sql,
        r#"
| late | worst_minutes | lost_15 | lost_60 | lost_180 |
|---|---|---|---|---|
| 15188 | 1300 | 5335 | 1816 | 190 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits() {
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM edits (time TIMESTAMP, page TEXT, \"user\" TEXT, WATERMARK FOR time AS time);
         CREATE CONTINUOUS QUERY hours AS
             SELECT window_start AS hour, count(*) AS edits, count(DISTINCT \"user\") AS users,
                 count(DISTINCT page) AS pages
             FROM TUMBLE(edits, time, INTERVAL '1' HOUR) GROUP BY window_start, window_end;
         CREATE CONTINUOUS QUERY users AS SELECT \"user\", count(*) AS edits FROM edits GROUP BY \"user\";",
    )
    .await;
    lab.feed("edits", &shipped("wiki_edits.ndjson.gz")).await;
    lab.run("PUNCTUATE edits WHERE time < TIMESTAMP '2015-09-13'; FLUSH").await;
    let sql = "SELECT hour, edits, users, pages FROM hours ORDER BY hour";
    lab.check(
        "edits per hour",
        sql,
        r#"
| hour | edits | users | pages |
|---|---|---|---|
| 2015-09-12 00:00:00 | 268 | 149 | 264 |
| 2015-09-12 01:00:00 | 1144 | 506 | 1090 |
| 2015-09-12 02:00:00 | 1102 | 459 | 1045 |
| 2015-09-12 03:00:00 | 815 | 427 | 766 |
| 2015-09-12 04:00:00 | 824 | 427 | 781 |
| 2015-09-12 05:00:00 | 1260 | 448 | 1223 |
| 2015-09-12 06:00:00 | 2120 | 498 | 2092 |
| 2015-09-12 07:00:00 | 2237 | 574 | 2181 |
| 2015-09-12 08:00:00 | 1622 | 707 | 1552 |
| 2015-09-12 09:00:00 | 1704 | 770 | 1624 |
| 2015-09-12 10:00:00 | 1792 | 785 | 1710 |
| 2015-09-12 11:00:00 | 1624 | 799 | 1532 |
"#,
    )
    .await;
    let sql =
        "SELECT \"user\", edits FROM users WHERE edits >= 0.01 * (SELECT sum(edits) FROM users)
        ORDER BY edits DESC, 1";
    lab.check(
        "users with many edits",
        sql,
        r#"
| user | edits |
|---|---|
| TuanUt-Bot! | 1792 |
| TuanminhBot | 990 |
| TuanUt | 975 |
| Cheers!-bot | 481 |
| Antigng-bot | 379 |
| GHA-WDAS | 279 |
| 아즈사봇 | 279 |
| PereBot | 215 |
| ThitxongkhoiAWB | 193 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn earthquakes() {
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM quakes (time BIGINT, mag DOUBLE, net TEXT);
         CREATE CONTINUOUS QUERY networks AS
             SELECT net, count(*) AS n, max(mag) AS strongest FROM quakes WHERE mag >= 4.5 GROUP BY net;",
    )
    .await;
    lab.feed("quakes", &shipped("earthquakes.ndjson.gz")).await;
    lab.run("FLUSH").await;
    let sql = "SELECT net, n, strongest FROM networks ORDER BY n DESC, net";
    lab.check(
        "strong earthquakes",
        sql,
        r#"
| net | n | strongest |
|---|---|---|
| us | 84 | 6.4 |
| ak | 1 | 4.8 |
"#,
    )
    .await;
    let times = "SELECT time FROM quakes ORDER BY _offset";
    lab.bounds("BIGINT", times, &["", " - 3600000", " - 86400000", " - 259200000"]).await;
    let sql = "SELECT (SELECT count(*) FROM bound_0 WHERE _late) AS lost_0,
        (SELECT round(max(highest - time) / 3600000.0, 4) FROM (SELECT time, max(time) OVER
            (ORDER BY _offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest FROM quakes)) AS worst,
        (SELECT count(*) FROM bound_1 WHERE _late) AS lost_1, (SELECT count(*) FROM bound_2 WHERE _late) AS lost_2,
        (SELECT count(*) FROM bound_3 WHERE _late) AS lost_3";
    lab.check(
        "disorder of earthquakes",
        sql,
        r#"
| late | worst_hours | lost_1h | lost_1d | lost_3d |
|---|---|---|---|---|
| 1295 | 159.827 | 1064 | 314 | 26 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_repositories() {
    let Some(file) = beside("github_events/events_2021.ndjson.gz") else { return };
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM events (type TEXT, actor STRUCT<login TEXT>, repo STRUCT<name TEXT>);
         CREATE CONTINUOUS QUERY types AS SELECT type, count(*) AS n FROM events GROUP BY type;
         CREATE CONTINUOUS QUERY repositories AS
             SELECT repo['name'] AS repo, count(*) AS n, count(DISTINCT actor['login']) AS actors
             FROM events GROUP BY repo['name'] HAVING count(*) >= 4;",
    )
    .await;
    lab.feed("events", &file).await;
    lab.run("FLUSH").await;
    let sql = "SELECT type, n FROM types ORDER BY n DESC, type";
    lab.check(
        "events by type",
        sql,
        r#"
| type | n |
|---|---|
| PushEvent | 425 |
| CreateEvent | 103 |
| PullRequestEvent | 64 |
| WatchEvent | 58 |
| IssueCommentEvent | 36 |
| PullRequestReviewEvent | 28 |
| DeleteEvent | 23 |
| IssuesEvent | 21 |
| ForkEvent | 19 |
| PullRequestReviewCommentEvent | 10 |
| MemberEvent | 4 |
| ReleaseEvent | 3 |
| CommitCommentEvent | 2 |
| GollumEvent | 2 |
| PublicEvent | 2 |
"#,
    )
    .await;
    let sql = "SELECT repo, n, actors FROM repositories ORDER BY n DESC, repo";
    lab.check(
        "repositories with most events",
        sql,
        r#"
| repo | n | actors |
|---|---|---|
| vpnsuperapp/fast | 16 | 1 |
| gabrieldonadel/pull-requests-limits | 8 | 1 |
| beanslee2012/games | 6 | 1 |
| hvaish01/StixBundles | 6 | 1 |
| xz241/wp-uploads | 6 | 1 |
| Georges7Haddad/BubblyEverAfter | 5 | 1 |
| Volodichev/proxy-list | 5 | 1 |
| Helikopter-Bojowy/Exp-na-helikopterze | 4 | 1 |
| alexelgt/Castform-Madrid | 4 | 1 |
| himobi/hotspot | 4 | 1 |
| leo91000/covid-japan-informations | 4 | 1 |
| milesholt/autotrade1 | 4 | 1 |
| miwebst/ssRunnerAngular | 4 | 1 |
| miwebst/ssRunnerReact | 4 | 1 |
| smart-data-models/dataModel.PointOfInterest | 4 | 1 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn auctions() {
    let (Some(log), Some(bids), Some(auctions)) = (
        beside("auctions/stream.ndjson.gz"),
        beside("auctions/bids.csv.gz"),
        beside("auctions/auctions.csv"),
    ) else {
        return;
    };
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM log (kind TEXT, t_ms BIGINT, auctionid BIGINT, bid DOUBLE, bidder TEXT);
         CREATE STREAM bids (auctionid BIGINT, bidder TEXT);
         CREATE STREAM auctions (auctionid BIGINT, item TEXT, days BIGINT, close_ms BIGINT);
         CREATE CONTINUOUS QUERY closed AS
             SELECT auctionid, window_id, max(bid) AS highest, count(bid) AS bids, max(t_ms) AS close_ms,
                 first_value(t_ms ORDER BY bid DESC, t_ms) FILTER (WHERE kind = 'bid') AS best_ms
             FROM PUNCTUATION_WINDOW(log, PARTITION => auctionid, END => kind = 'close')
             GROUP BY auctionid, window_id;
         CREATE CONTINUOUS QUERY bidders AS
             SELECT bidder, count(DISTINCT auctionid) AS auctions, count(*) AS bids FROM bids
             WHERE bidder IS NOT NULL GROUP BY bidder;",
    )
    .await;
    // Sixteen records hold NaN, which is no JSON: they are refused, and counted, until mended.
    lab.run("CREATE STREAM as_recorded (kind TEXT)").await;
    assert_eq!(lab.feed("as_recorded", &log).await, (11_293, 16));
    let mut text = String::new();
    GzDecoder::new(File::open(log).unwrap()).read_to_string(&mut text).unwrap();
    let mended = lab.directory.path().join("log.ndjson");
    std::fs::write(&mended, text.replace(":NaN}", ":null}")).unwrap();
    assert_eq!(lab.feed("log", &mended).await, (11_309, 0));
    lab.feed("bids", &bids).await;
    lab.feed("auctions", &auctions).await;
    lab.run("FLUSH").await;
    let sql = "SELECT days, item, count(*), round(sum(highest), 2), round(avg(bids), 6)
        FROM closed JOIN auctions ON closed.auctionid = auctions.auctionid GROUP BY days, item ORDER BY days, item";
    lab.check(
        "auctions closed",
        sql,
        r#"
| days | item | auctions | sum_of_highest | mean_bids |
|---|---|---|---|---|
| 3 | Cartier wristwatch | 18 | 11355.42 | 13.888889 |
| 3 | Palm Pilot M515 PDA | 95 | 21193.16 | 12.8 |
| 3 | Xbox game console | 35 | 4144.93 | 15.914286 |
| 5 | Cartier wristwatch | 21 | 18145.66 | 16.904762 |
| 5 | Palm Pilot M515 PDA | 54 | 12413.15 | 16.092593 |
| 5 | Xbox game console | 21 | 2920.1 | 18.714286 |
| 7 | Cartier wristwatch | 97 | 90798.72 | 13.896907 |
| 7 | Palm Pilot M515 PDA | 194 | 44736.36 | 19.752577 |
| 7 | Xbox game console | 93 | 12515.66 | 20.010753 |
"#,
    )
    .await;
    let sql = "SELECT count(*) FROM closed WHERE close_ms - best_ms <= 60000";
    lab.check(
        "auctions won in the last minute",
        sql,
        r#"
| auctions |
|---|
| 138 |
"#,
    )
    .await;
    let sql = "SELECT bidder, auctions, bids FROM bidders ORDER BY auctions DESC, bids DESC, bidder LIMIT 5";
    lab.check(
        "bidders in most auctions",
        sql,
        r#"
| bidder | auctions | bids |
|---|---|---|
| b1722 | 24 | 24 |
| b1105 | 22 | 26 |
| b1458 | 18 | 21 |
| b1028 | 16 | 20 |
| b1672 | 14 | 14 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invoices() {
    let Some(file) = beside("retail/invoice_lines_2010_12.csv.gz") else { return };
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM lines (invoice TEXT, stock_code TEXT, quantity BIGINT, invoice_time TIMESTAMP,
             unit_price DOUBLE, WATERMARK FOR invoice_time AS invoice_time);
         CREATE CONTINUOUS QUERY items AS
             SELECT stock_code, count(DISTINCT invoice) AS invoices FROM lines GROUP BY stock_code;
         CREATE CONTINUOUS QUERY invoices AS SELECT count(DISTINCT invoice) AS n FROM lines;
         CREATE CONTINUOUS QUERY days AS
             SELECT window_start AS day, count(DISTINCT invoice) AS invoices, sum(quantity * unit_price) AS revenue
             FROM TUMBLE(lines, invoice_time, INTERVAL '1' DAY) GROUP BY window_start, window_end;",
    )
    .await;
    lab.feed("lines", &file).await;
    lab.run("PUNCTUATE lines WHERE invoice_time < TIMESTAMP '2011-01-01'; FLUSH").await;
    let sql = "SELECT stock_code, items.invoices FROM items
        WHERE items.invoices >= 0.05 * (SELECT n FROM invoices) ORDER BY 2 DESC, 1";
    lab.check(
        "frequent items",
        sql,
        r#"
| stock_code | invoices |
|---|---|
| 85123A | 230 |
| 22423 | 187 |
| 22086 | 165 |
| 22834 | 165 |
| 22111 | 160 |
| 22112 | 148 |
| 22469 | 142 |
| 22961 | 139 |
| 22837 | 134 |
| 22910 | 133 |
| 21479 | 131 |
| 84029E | 130 |
| 84029G | 130 |
| 22197 | 126 |
| 85099B | 124 |
| 21481 | 123 |
| 21485 | 123 |
| 22470 | 119 |
| 22867 | 116 |
| 22960 | 111 |
| 22835 | 107 |
| 21181 | 102 |
| 22113 | 102 |
| 22726 | 102 |
"#,
    )
    .await;
    let sql = "WITH i AS (SELECT DISTINCT invoice, stock_code FROM lines)
        SELECT a.stock_code, b.stock_code, count(*) FROM i a JOIN i b ON a.invoice = b.invoice
        WHERE a.stock_code < b.stock_code GROUP BY 1, 2 HAVING count(*) >= 50 ORDER BY 3 DESC, 1, 2";
    lab.check(
        "frequent pairs",
        sql,
        r#"
| item_1 | item_2 | invoices |
|---|---|---|
| 22086 | 22910 | 87 |
| 22112 | 22835 | 75 |
| 22111 | 22112 | 72 |
| 84029E | 84029G | 71 |
| 21485 | 22111 | 70 |
| 22469 | 22470 | 68 |
| 22726 | 22727 | 68 |
| 84029G | 85123A | 64 |
| 22960 | 22961 | 63 |
| 21485 | 22112 | 62 |
| 22197 | 22198 | 60 |
| 21479 | 22112 | 59 |
| 21733 | 85123A | 59 |
| 21481 | 22111 | 57 |
| 22469 | 85123A | 57 |
| 21479 | 84029E | 56 |
| 21479 | 84029G | 56 |
| 22111 | 84029E | 56 |
| 22834 | 22837 | 56 |
| 22111 | 22837 | 54 |
| 22112 | 84029G | 54 |
| 84029E | 85123A | 54 |
| 22470 | 85123A | 53 |
| 21231 | 21232 | 52 |
| 21479 | 22111 | 52 |
| 82482 | 82494L | 52 |
| 21485 | 22835 | 51 |
| 22111 | 85123A | 51 |
| 22112 | 84029E | 51 |
| 22632 | 22633 | 51 |
| 22726 | 22728 | 51 |
| 21479 | 21481 | 50 |
| 22111 | 22835 | 50 |
| 22745 | 22748 | 50 |
| 22865 | 22866 | 50 |
"#,
    )
    .await;
    let sql = "SELECT CAST(day AS DATE) AS date, invoices, round(revenue, 2) FROM days ORDER BY day LIMIT 5";
    lab.check(
        "revenue per day",
        sql,
        r#"
| day | invoices | revenue |
|---|---|---|
| 2010-12-01 | 143 | 58635.56 |
| 2010-12-02 | 167 | 46207.28 |
| 2010-12-03 | 108 | 45620.46 |
| 2010-12-05 | 95 | 31383.95 |
| 2010-12-06 | 133 | 53860.18 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn baskets() {
    let Some(file) = beside("groceries/groceries.txt") else { return };
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM baskets (line TEXT);
         CREATE CONTINUOUS QUERY items AS
             SELECT _offset AS basket, unnest(string_to_array(line, ',')) AS item FROM baskets;
         CREATE CONTINUOUS QUERY counts AS
             SELECT item, count(DISTINCT basket) AS baskets FROM items WHERE item <> '' GROUP BY item;",
    )
    .await;
    lab.feed("baskets", &file).await;
    lab.run("FLUSH").await;
    let sql = "SELECT item, baskets FROM counts WHERE baskets >= 983.5 ORDER BY baskets DESC";
    lab.check(
        "frequent items",
        sql,
        r#"
| item | baskets |
|---|---|
| whole milk | 2513 |
| other vegetables | 1903 |
| rolls/buns | 1809 |
| soda | 1715 |
| yogurt | 1372 |
| bottled water | 1087 |
| root vegetables | 1072 |
| tropical fruit | 1032 |
"#,
    )
    .await;
    let items = "WITH i AS (SELECT DISTINCT basket, item FROM items WHERE item <> '')";
    let sql = "SELECT a.item, b.item, count(*) FROM i a JOIN i b ON a.basket = b.basket
        WHERE a.item < b.item GROUP BY 1, 2 HAVING count(*) >= 393.4 ORDER BY 3 DESC";
    lab.check(
        "frequent pairs",
        &format!("{items} {sql}"),
        r#"
| item_1 | item_2 | baskets |
|---|---|---|
| other vegetables | whole milk | 736 |
| rolls/buns | whole milk | 557 |
| whole milk | yogurt | 551 |
| root vegetables | whole milk | 481 |
| other vegetables | root vegetables | 466 |
| other vegetables | yogurt | 427 |
| other vegetables | rolls/buns | 419 |
| tropical fruit | whole milk | 416 |
| soda | whole milk | 394 |
"#,
    )
    .await;
    let sql = "SELECT a.item, b.item, c.item, count(*) FROM i a JOIN i b ON a.basket = b.basket
        JOIN i c ON a.basket = c.basket WHERE a.item < b.item AND b.item < c.item
        GROUP BY 1, 2, 3 HAVING count(*) >= 147.525 ORDER BY 4 DESC, 1, 2, 3";
    lab.check(
        "frequent triples",
        &format!("{items} {sql}"),
        r#"
| item_1 | item_2 | item_3 | baskets |
|---|---|---|---|
| other vegetables | root vegetables | whole milk | 228 |
| other vegetables | whole milk | yogurt | 219 |
| other vegetables | rolls/buns | whole milk | 176 |
| other vegetables | tropical fruit | whole milk | 168 |
| rolls/buns | whole milk | yogurt | 153 |
| tropical fruit | whole milk | yogurt | 149 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn searches() {
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM searches (time TIMESTAMP, \"user\" TEXT, query TEXT, WATERMARK FOR time AS time);
         CREATE CONTINUOUS QUERY counts AS
             SELECT query, count(*) AS n, count(DISTINCT \"user\") AS users FROM searches
             WHERE query <> '' GROUP BY query;
         CREATE CONTINUOUS QUERY sessions AS
             SELECT \"user\", window_start, count(*) AS n
             FROM SESSION(searches, time, INTERVAL '15 minutes 1 microsecond', PARTITION => \"user\")
             GROUP BY \"user\", window_start, window_end;",
    )
    .await;
    lab.feed("searches", &shipped("search_queries.csv.gz")).await;
    lab.run("PUNCTUATE searches WHERE time < TIMESTAMP '1997-09-18'; FLUSH").await;
    let sql = "SELECT query, n, users FROM counts ORDER BY n DESC, query LIMIT 5";
    lab.check(
        "most frequent queries",
        sql,
        r#"
| query | n | users |
|---|---|---|
| maytag | 41 | 1 |
| vanderheiden | 27 | 1 |
| change bowel habits | 24 | 1 |
| en vogue | 23 | 1 |
| running shoes | 22 | 1 |
"#,
    )
    .await;
    let sql = "SELECT count(*), round(sum(n) * 1.0 / count(*), 6) FROM sessions";
    lab.check(
        "sessions of searching",
        sql,
        r#"
| sessions | queries_per_session |
|---|---|
| 1209 | 3.722911 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_children() {
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM births (year BIGINT, name TEXT, sex TEXT, births BIGINT);
         CREATE CONTINUOUS QUERY recent AS
             SELECT name, sex, sum(births) FILTER (WHERE year = 2009) AS births_2009,
                 sum(births) FILTER (WHERE year = 2010) AS births_2010
             FROM births WHERE year >= 2009 GROUP BY name, sex;
         CREATE CONTINUOUS QUERY new_names AS
             SELECT name, sex, sum(births) AS births FROM births GROUP BY name, sex HAVING min(year) = 2010;",
    )
    .await;
    lab.feed("births", &shipped("baby_names.csv.gz")).await;
    lab.run("FLUSH").await;
    let sql = "SELECT name, sex, births_2009, births_2010 FROM recent WHERE births_2010 - births_2009 >= 1500
        ORDER BY births_2010 - births_2009 DESC";
    lab.check(
        "names given more often",
        sql,
        r#"
| name | sex | births_2009 | births_2010 |
|---|---|---|---|
| Mason | M | 10654 | 14728 |
| Sophia | F | 16869 | 20477 |
| Bentley | M | 521 | 3742 |
| Liam | M | 8535 | 10852 |
| Khloe | F | 3443 | 5369 |
| Eli | M | 4885 | 6486 |
"#,
    )
    .await;
    let sql = "SELECT name, sex, births, (SELECT count(*) FROM new_names) FROM new_names
        ORDER BY births DESC, name LIMIT 5";
    lab.check(
        "names never given before",
        sql,
        r#"
| name | sex | births | new_names |
|---|---|---|---|
| Vadhir | M | 55 | 1913 |
| Tynlee | F | 42 | 1913 |
| Jeffren | M | 28 | 1913 |
| Brees | M | 22 | 1913 |
| Khloei | F | 21 | 1913 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_citizens() {
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM requests (created TIMESTAMP, closed TIMESTAMP, complaint TEXT, borough TEXT,
             WATERMARK FOR created AS created);
         CREATE CONTINUOUS QUERY days AS
             SELECT window_start AS day, complaint, count(*) AS n
             FROM TUMBLE(requests, created, INTERVAL '1' DAY) GROUP BY window_start, window_end, complaint;
         CREATE CONTINUOUS QUERY boroughs AS
             SELECT coalesce(borough, '(none)') AS borough, count(*) AS requests, count(closed) AS closed,
                 median((date_part('epoch', closed) - date_part('epoch', created)) / 3600.0) AS hours
             FROM requests GROUP BY 1;",
    )
    .await;
    lab.feed("requests", &shipped("city_311.csv.gz")).await;
    lab.run("PUNCTUATE requests WHERE created < TIMESTAMP '2025-03-20'; FLUSH").await;
    let sql = "SELECT complaint, coalesce(b.n, 0), a.n
        FROM (SELECT complaint, n FROM days WHERE day = TIMESTAMP '2025-01-22') a
        LEFT JOIN (SELECT complaint, n FROM days WHERE day = TIMESTAMP '2025-01-21') b USING (complaint)
        WHERE a.n > coalesce(b.n, 0) ORDER BY a.n - coalesce(b.n, 0) DESC, complaint";
    lab.check(
        "more than yesterday",
        sql,
        r#"
| complaint | yesterday | today |
|---|---|---|
| Dead Animal | 3 | 17 |
"#,
    )
    .await;
    let sql =
        "SELECT borough, requests, closed, round(hours, 4) FROM boroughs ORDER BY requests DESC";
    lab.check(
        "time to closure",
        sql,
        r#"
| borough | requests | closed | median_hours |
|---|---|---|---|
| BROOKLYN | 1654 | 1531 | 4.35 |
| QUEENS | 1193 | 1144 | 9.7833 |
| MANHATTAN | 953 | 915 | 1.6333 |
| BRONX | 705 | 661 | 6.3333 |
| STATEN ISLAND | 463 | 440 | 20.575 |
| Unspecified | 1 | 1 | 37.5167 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mentions() {
    let mut lab = Lab::new();
    lab.run(
        "CREATE STREAM mentions (time TIMESTAMP, symbol TEXT, mentions BIGINT, WATERMARK FOR time AS time);
         CREATE CONTINUOUS QUERY days AS
             SELECT window_start AS day, symbol, sum(mentions) AS mentions
             FROM TUMBLE(mentions, time, INTERVAL '1' DAY) GROUP BY window_start, window_end, symbol;
         CREATE CONTINUOUS QUERY bursts AS
             SELECT symbol, window_id, last_value(mentions) AS now, sum(mentions) AS total
             FROM COUNT_WINDOW(mentions, 13, SLIDE => 1, PARTITION => symbol) GROUP BY symbol, window_id
             HAVING sum(mentions) > last_value(mentions)
                 AND 12 * last_value(mentions) >= 10 * (sum(mentions) - last_value(mentions));",
    )
    .await;
    lab.feed("mentions", &shipped("twitter_volume.csv.gz")).await;
    lab.run("PUNCTUATE mentions WHERE time < TIMESTAMP '2015-05-01'; FLUSH").await;
    let sql = "SELECT CAST(day AS DATE) AS date, symbol, mentions FROM days
        WHERE day >= TIMESTAMP '2015-03-02' AND day < TIMESTAMP '2015-03-07' ORDER BY day, symbol";
    lab.check(
        "mentions per day",
        sql,
        r#"
| day | symbol | mentions |
|---|---|---|
| 2015-03-02 | AAPL | 12426 |
| 2015-03-02 | AMZN | 15017 |
| 2015-03-02 | FB | 5639 |
| 2015-03-02 | GOOG | 6161 |
| 2015-03-02 | IBM | 1230 |
| 2015-03-03 | AAPL | 37832 |
| 2015-03-03 | AMZN | 18956 |
| 2015-03-03 | FB | 4442 |
| 2015-03-03 | GOOG | 6098 |
| 2015-03-03 | IBM | 1340 |
| 2015-03-04 | AAPL | 25585 |
| 2015-03-04 | AMZN | 17869 |
| 2015-03-04 | FB | 5277 |
| 2015-03-04 | GOOG | 7063 |
| 2015-03-04 | IBM | 1578 |
| 2015-03-05 | AAPL | 13124 |
| 2015-03-05 | AMZN | 19890 |
| 2015-03-05 | FB | 4998 |
| 2015-03-05 | GOOG | 7469 |
| 2015-03-05 | IBM | 1225 |
| 2015-03-06 | AAPL | 21578 |
| 2015-03-06 | AMZN | 16818 |
| 2015-03-06 | FB | 5427 |
| 2015-03-06 | GOOG | 6356 |
| 2015-03-06 | IBM | 1061 |
"#,
    )
    .await;
    let sql = "SELECT symbol, count(*) FROM bursts GROUP BY symbol ORDER BY symbol";
    lab.check(
        "bursts of mentions",
        sql,
        r#"
| symbol | bursts |
|---|---|
| AAPL | 42 |
| AMZN | 3 |
| FB | 10 |
| GOOG | 5 |
| IBM | 27 |
"#,
    )
    .await;
    lab.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn road_sensors() {
    let Some(file) = beside("road_traffic/sensors.csv") else { return };
    let mut lab = Lab::new();
    lab.run("CREATE STREAM road (time TIMESTAMP, sensor TEXT, metric TEXT, value DOUBLE)").await;
    lab.feed("road", &file).await;
    let sql = "WITH d AS (SELECT sensor, metric, (date_part('epoch', time) - date_part('epoch', lag(time) OVER
            (PARTITION BY sensor, metric ORDER BY time))) / 60.0 AS gap FROM road)
        SELECT sensor, metric, count(*), median(gap), round(max(gap), 4) FROM d GROUP BY 1, 2 ORDER BY 1, 2";
    lab.check(
        "times between readings",
        sql,
        r#"
| sensor | metric | readings | median_gap_min | longest_gap_min |
|---|---|---|---|---|
| 6005 | occupancy | 2380 | 5 | 5043 |
| 6005 | speed | 2500 | 5 | 5043 |
| t4013 | occupancy | 2500 | 5 | 5061 |
| t4013 | speed | 2495 | 5 | 5061 |
"#,
    )
    .await;
    let sql = "SELECT count(*), round(avg(s.value) FILTER (WHERE o.value >= 10), 6)
        FROM road s JOIN road o ON s.sensor = o.sensor AND s.time = o.time
        WHERE s.metric = 'speed' AND o.metric = 'occupancy' AND s.sensor = '6005'";
    lab.check(
        "speed and occupancy",
        sql,
        r#"
| pairs | mean_speed |
|---|---|
| 2380 | 82.291429 |
"#,
    )
    .await;
    lab.end().await;
}
