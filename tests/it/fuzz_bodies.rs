//! Runs the bodies of the fuzz targets over mutated seeds, so that they compile and hold in every run.
//!
//! `WEIR_FUZZ_INPUTS` says how many inputs each body gets, `WEIR_FUZZ_SECONDS` for how long it gets
//! inputs instead, and `WEIR_FUZZ_SEED` which: another number makes other inputs.

#[path = "../../fuzz/bodies/decode_csv.rs"]
mod decode_csv;
#[path = "../../fuzz/bodies/decode_json.rs"]
mod decode_json;
#[path = "../../fuzz/bodies/parse.rs"]
mod parse;
#[path = "../../fuzz/bodies/recover_segment.rs"]
mod recover_segment;
#[path = "../../fuzz/bodies/tcp_framing.rs"]
mod tcp_framing;

use crate::oracle::Rng;

/// Pieces that mean something to one grammar or another.
const WORDS: [&str; 44] = [
    "\n",
    "\r\n",
    "\"",
    "\"\"",
    "'",
    "''",
    ",",
    "{",
    "}",
    "[",
    "]",
    ":",
    "null",
    "true",
    "-0",
    "1e9",
    "9223372036854775808",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "é",
    "☃",
    "\u{0}",
    "(",
    ")",
    ";",
    "--",
    "/*",
    "*/",
    "$$",
    "SELECT ",
    " FROM s ",
    " EMIT CHANGES",
    " INTERVAL '1' DAY",
    "TUMBLE(s, at, 1)",
    "$punctuate",
    "2026-01-01T00:00:00Z",
    "INGEST s FORMAT csv\n",
    "INGEST s FORMAT ndjson\n",
    " AS ",
    " OR ",
    "::INT",
    "[]",
    "=>",
];

fn mutate(rng: &mut Rng, seeds: &[&[u8]]) -> Vec<u8> {
    let mut input = seeds[rng.index(seeds.len())].to_vec();
    for _ in 0..rng.index(5) {
        let at = rng.index(input.len() + 1);
        match rng.index(6) {
            0 => input.truncate(at),
            1 if at < input.len() => input[at] ^= 1 << rng.index(8),
            2 if at < input.len() => drop(input.remove(at)),
            3 => {
                let word = WORDS[rng.index(WORDS.len())].as_bytes();
                input.splice(at..at, word.iter().copied());
            }
            4 => {
                let other = seeds[rng.index(seeds.len())];
                let from = rng.index(other.len() + 1);
                input.splice(at..at, other[from..].iter().copied());
            }
            _ => input.insert(at, rng.next() as u8),
        }
    }
    input
}

fn run(seed: u64, seeds: &[&[u8]], default: u64, check: impl Fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = seed + 8 * number("WEIR_FUZZ_SEED").unwrap_or(0);
    let seconds = number("WEIR_FUZZ_SECONDS");
    let inputs = match seconds {
        Some(_) => u64::MAX,
        None => number("WEIR_FUZZ_INPUTS").unwrap_or(default),
    };
    let begin = tokio::time::Instant::now();
    for n in 0..inputs {
        if seconds.is_some_and(|seconds| begin.elapsed().as_secs() >= seconds) {
            println!("{n} inputs in {seconds:?} seconds");
            break;
        }
        let input = mutate(&mut Rng::new(seed.wrapping_mul(1 << 32).wrapping_add(n)), seeds);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&input)));
        assert!(outcome.is_ok(), "input {n}: {:?}", String::from_utf8_lossy(&input));
    }
}

#[test]
fn any_text_is_statements_or_an_error() {
    let seeds: [&[u8]; 6] = [
        b"CREATE STREAM clicks (url TEXT NOT NULL, n NUMERIC(10,2), at TIMESTAMP, l STRUCT<a INT, b TEXT[]>, WATERMARK FOR at AS at - INTERVAL '5' SECOND) WITH (retention = '7 days') ON OVERLOAD BLOCK;",
        b"CREATE CONTINUOUS QUERY hits WITH (start = 'earliest') AS SELECT window_start, count(*) FILTER (WHERE n > 1) AS n FROM HOP(clicks, at, INTERVAL '7' SECOND, INTERVAL '10' SECOND, OFFSET => INTERVAL '1' SECOND) GROUP BY window_start, window_end EMIT EVERY 100 ROWS ON CLOSE RETRACTING ALLOWED LATENESS INTERVAL '2' MINUTE;",
        b"WITH a AS (SELECT 1 AS x UNION ALL SELECT 2), b AS (SELECT x FROM a WHERE x IN (1, 2, NULL) AND NOT x IS NULL) SELECT CASE WHEN x > 1 THEN 'a' ELSE \"B\" END, x::BIGINT FROM b ORDER BY x DESC NULLS LAST LIMIT 3",
        b"INSERT INTO s (a, b) VALUES (1, 'it''s'), (-2.5e3, NULL); UPDATE u SET a = a + 1 WHERE id = 1; DELETE FROM u; PUNCTUATE s WHERE at < TIMESTAMP '2026-01-01'; FLUSH; SHOW QUERIES",
        b"CREATE SINK s FROM q INTO POSTGRES WITH (url = 'postgres://x', table = 'hits', mode = 'upsert', key = 'a, b'); DROP CONTINUOUS QUERY IF EXISTS q CASCADE; SUBSCRIBE q FROM OFFSET 3 WITH SNAPSHOT",
        b"/* a /* b */ c */ SELECT $$x$$, E'\\n', U&'x' -- end\n",
    ];
    run(1, &seeds, 4_000, |input| parse::check(&String::from_utf8_lossy(input)));
}

const NDJSON: [&[u8]; 4] = [
    b"{\"a\":\"x\",\"n\":1,\"x\":1.5,\"d\":\"12.34\",\"at\":\"2026-01-01T00:00:00Z\",\"l\":[1,null],\"s\":{\"b\":\"y\"},\"doc\":{\"q\":[1,2]}}\n{\"a\":\"z\",\"n\":2,\"x\":2.5,\"d\":1.2,\"at\":1767225600000}\n",
    b"[{\"a\":null},{\"a\":\"\\u00e9\\ud83d\\ude00\"},{\"n\":-9223372036854775808}]",
    b"{\"$punctuate\":{\"at\":{\"lt\":\"2026-01-01T00:00:00Z\"}}}\n{\"$punctuate\":{\"n\":17}}\n{\"n\":1}\n",
    b"{}\n\n{\"unknown\":{\"deep\":[[[[]]]]},\"a\":\"\"}\r\n{\"n\":1e3}\n",
];

#[test]
fn any_bytes_are_json_rows_or_rejected() {
    run(2, &NDJSON, 5_000, decode_json::check);
}

#[test]
fn any_bytes_are_csv_rows_or_rejected() {
    let seeds: [&[u8]; 3] = [
        b"x,1,2026-01-01T00:00:00Z\n\"a \"\"b\"\"\",2,\n,,\n",
        b"\"multi\nline\",7,2026-01-01 00:00:00\r\nlast,8,",
        b"a,b,c,d\n\"open,1,\n",
    ];
    run(3, &seeds, 8_000, decode_csv::check);
}

#[test]
fn any_bytes_behind_the_mark_are_cut_and_any_damage_is_reported() {
    let seeds: [&[u8]; 4] = [
        b"\0\0\0",
        b"\x01\x40\0abcdefgh",
        b"\x02\x08\0\xff\xff\xff\xff",
        b"\x03\x00\x00ARROW1\0\0\x01\x02\x03\x04\x05\x06",
    ];
    run(4, &seeds, 1_500, recover_segment::check);
}

#[test]
fn any_cut_of_a_connection_gives_the_same_rows() {
    let seeds: [&[u8]; 4] = [
        b"\x02\x08INGEST s FORMAT ndjson ACK written\n{\"a\":1}\n{\"a\":2}\n",
        b"\x00\x05INGEST \"my s\" FORMAT csv HEADER\r\na,b\n\"x\ny\",2\n",
        b"\x07\x03ingest s format text\none\ntwo\n\nthree",
        b"\x01\x10INGEST s FORMAT csv PRODUCER p SEQUENCE 7\n1,2\n\"",
    ];
    run(5, &seeds, 8_000, tcp_framing::check);
}
