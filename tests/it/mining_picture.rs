//! Draws `docs/images/bounds.svg`: what summaries say of recordings, beside the truth.
//!
//! Each bar reaches from the lower bound to the upper one, in percent of the exact number, which is the line in the middle.
//! The test asks both over the recordings and fails where the picture in the repository is another;
//! `WEIR_DRAW=1` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use weir::client::demo::answer::Answer;

use crate::recordings::{Lab, shipped};

/// How far from the truth the picture reaches, in percent.
const PERCENT_MAX: f64 = 25.0;
/// Where the lines are.
const LINES: [i32; 5] = [-20, -10, 0, 10, 20];

struct Bar {
    label: String,
    lower: f64,
    estimate: f64,
    upper: f64,
    truth: f64,
}

struct Panel {
    title: &'static str,
    bars: Vec<Bar>,
}

/// Rows of (label, lower, estimate, upper, truth).
fn bars(answer: &Answer) -> Vec<Bar> {
    let bar = |row: &Vec<String>| {
        let number = |at: usize| row[at].parse().unwrap_or_else(|_| panic!("a number in {row:?}"));
        let [lower, estimate, upper, truth] = [1, 2, 3, 4].map(number);
        Bar { label: row[0].clone(), lower, estimate, upper, truth }
    };
    let bars: Vec<Bar> = answer.rows.iter().map(bar).collect();
    for bar in &bars {
        assert!(bar.lower <= bar.truth && bar.truth <= bar.upper, "{} misses", bar.label);
    }
    bars
}

async fn panels(lab: &mut Lab) -> Vec<Panel> {
    lab.run("CREATE STREAM births (year BIGINT, name TEXT, sex TEXT, births BIGINT)").await;
    lab.feed("births", &shipped("baby_names.csv.gz")).await;
    lab.run("CREATE STREAM updates (ts BIGINT, collector TEXT, peer_asn BIGINT, kind TEXT, prefix TEXT)")
        .await;
    lab.feed("updates", &shipped("bgp_rrc06.csv.gz")).await;
    let hitters = "SELECT h.prefix AS label, count_lower, count_estimate, count_upper, exact
        FROM HEAVY_HITTERS(updates, ITEM => prefix, SUPPORT => 0.01, ERROR => 0.002) h
        JOIN (SELECT prefix, count(*) AS exact FROM updates GROUP BY prefix) e ON e.prefix = h.prefix
        ORDER BY exact DESC, h.prefix LIMIT 8";
    let distinct = "SELECT u.label, c['lower'], c['estimate'], c['upper'], exact FROM (
        SELECT 'up to ' || last AS label, last, approx_count_distinct_bounds(name) AS c, count(DISTINCT name) AS exact
        FROM births, (VALUES (2001), (2002), (2004), (2007), (2010)) AS y(last) WHERE year <= last GROUP BY last) u ORDER BY last";
    let sets = "SELECT label, c['lower'], c['estimate'], c['upper'], exact FROM (
        SELECT 1 AS place, 'girls and never boys' AS label,
            count_distinct_where(name, ever(sex = 'F') AND NOT ever(sex = 'M')) AS c FROM births
        UNION ALL SELECT 2, 'girls and boys', count_distinct_where(name, ever(sex = 'F') AND ever(sex = 'M')) FROM births
        UNION ALL SELECT 3, 'in 2001 or 2010', count_distinct_where(name, ever(year = 2001) OR ever(year = 2010)) FROM births
        UNION ALL SELECT 4, 'new after 2001', count_distinct_where(name, ever(year > 2001) AND NOT ever(year = 2001)) FROM births
        UNION ALL SELECT 5, '2001 to 2010, each', count_distinct_where(name, ever(year = 2001) AND ever(year = 2010)
            AND ever(year = 2004) AND ever(year = 2007)) FROM births) s
        JOIN (
        SELECT 1 AS place, count(*) AS exact FROM (SELECT name FROM births GROUP BY name HAVING min(sex) = 'F' AND max(sex) = 'F')
        UNION ALL SELECT 2, count(*) FROM (SELECT name FROM births GROUP BY name HAVING min(sex) <> max(sex))
        UNION ALL SELECT 3, count(DISTINCT name) FROM births WHERE year IN (2001, 2010)
        UNION ALL SELECT 4, count(*) FROM (SELECT name FROM births GROUP BY name HAVING min(year) > 2001)
        UNION ALL SELECT 5, count(*) FROM (SELECT name FROM births WHERE year IN (2001, 2004, 2007, 2010)
            GROUP BY name HAVING count(DISTINCT year) = 4)) e ON e.place = s.place ORDER BY s.place";
    let quantiles = "SELECT label, c['lower'], c['estimate'], c['upper'], exact FROM (
        SELECT 1 AS place, 'median' AS label, approx_quantile_bounds(births, 0.5) AS c FROM births
        UNION ALL SELECT 2, '90 %', approx_quantile_bounds(births, 0.9) FROM births
        UNION ALL SELECT 3, '99 %', approx_quantile_bounds(births, 0.99) FROM births
        UNION ALL SELECT 4, '99.9 %', approx_quantile_bounds(births, 0.999) FROM births) q
        JOIN (SELECT CASE q WHEN 0.5 THEN 1 WHEN 0.9 THEN 2 WHEN 0.99 THEN 3 ELSE 4 END AS place, min(births) AS exact
            FROM (SELECT births, row_number() OVER (ORDER BY births) AS rank, count(*) OVER () AS n FROM births) r,
            (VALUES (0.5), (0.9), (0.99), (0.999)) AS v(q) WHERE rank >= q * n GROUP BY q) e ON e.place = q.place
        ORDER BY q.place";
    let mut panels = Vec::new();
    for (title, sql) in [
        ("Routes at Tokyo: updates of a prefix (HEAVY_HITTERS, error 0.2 %)", hitters),
        ("First names, by number of years (approx_count_distinct_bounds)", distinct),
        ("First names, by sex and year (count_distinct_where)", sets),
        ("Births of a name in a year (approx_quantile_bounds)", quantiles),
    ] {
        let bars = bars(&lab.run(sql).await);
        assert!(bars.len() >= 4, "{title}: {} bars", bars.len());
        panels.push(Panel { title, bars });
    }
    panels
}

/// 1234567 as 1,234,567.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn draw(panels: &[Panel]) -> String {
    const LEFT: f64 = 200.0;
    const RIGHT: f64 = 560.0;
    const LINE: f64 = 18.0;
    let x = |percent: f64| (LEFT + RIGHT) / 2.0 + percent / PERCENT_MAX * (RIGHT - LEFT) / 2.0;
    let mut body = String::new();
    let mut y = 16.0;
    let text = |body: &mut String, x: f64, y: f64, style: &str, text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        writeln!(body, "<text x=\"{x:.0}\" y=\"{y:.0}\" {style}>{text}</text>").unwrap();
    };
    for panel in panels {
        text(&mut body, 10.0, y, "font-weight=\"bold\"", panel.title);
        y += LINE + 2.0;
        let top = y - LINE + 5.0;
        let bottom = top + LINE * panel.bars.len() as f64;
        for percent in LINES {
            let (x, color) = (x(f64::from(percent)), if percent == 0 { "#333" } else { "#ddd" });
            writeln!(body, "<line x1=\"{x:.1}\" y1=\"{top:.0}\" x2=\"{x:.1}\" y2=\"{bottom:.0}\" stroke=\"{color}\"/>").unwrap();
        }
        for bar in &panel.bars {
            let percent = |value: f64| (value / bar.truth - 1.0) * 100.0;
            let [lower, estimate, upper] = [bar.lower, bar.estimate, bar.upper].map(percent);
            assert!(
                lower >= -PERCENT_MAX && upper <= PERCENT_MAX,
                "{} does not fit: {lower} {upper}",
                bar.label
            );
            text(&mut body, LEFT - 8.0, y, "text-anchor=\"end\"", &bar.label);
            let (from, to, middle) = (x(lower), x(upper), y - 4.0);
            writeln!(body, "<line x1=\"{from:.1}\" y1=\"{middle:.0}\" x2=\"{to:.1}\" y2=\"{middle:.0}\" stroke=\"#2a6fb0\" stroke-width=\"6\"/>").unwrap();
            writeln!(
                body,
                "<circle cx=\"{:.1}\" cy=\"{middle:.0}\" r=\"3.5\" fill=\"#d95f02\"/>",
                x(estimate)
            )
            .unwrap();
            let [lower, upper, truth] = [bar.lower, bar.upper, bar.truth].map(grouped);
            let said = match lower == upper {
                true => format!("{truth} exactly"),
                false => format!("{truth}: {lower} to {upper}"),
            };
            text(&mut body, RIGHT + 10.0, y, "", &said);
            y += LINE;
        }
        y += 14.0;
    }
    for percent in LINES {
        let label = if percent == 0 { "truth".to_string() } else { format!("{percent:+} %") };
        text(
            &mut body,
            x(f64::from(percent)),
            y - 8.0,
            "text-anchor=\"middle\" fill=\"#555\"",
            &label,
        );
    }
    let height = y + 4.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_of_the_bounds_is_what_the_recordings_give() {
    let mut lab = Lab::new();
    let picture = draw(&panels(&mut lab).await);
    lab.end().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images/bounds.svg");
    if std::env::var_os("WEIR_DRAW").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &picture).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(known, picture, "WEIR_DRAW=1 draws it anew");
}
