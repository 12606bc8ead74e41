//! Plays `weir demo --fast` inside the test.

use weir::client::demo::{DemoArgs, play};

#[tokio::test(flavor = "multi_thread")]
async fn the_fast_demo_gives_the_known_answers_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let args = DemoArgs { fast: true, data_dir: Some(directory.path().join("demo")) };
    let mut out = Vec::new();
    let outcome = play(&args, &mut out).await;
    let text = String::from_utf8(out).unwrap();
    assert!(outcome.is_ok(), "{}\n{text}", outcome.unwrap_err());
    assert!(text.contains("All 8 answers are right."), "{text}");
    assert!(text.contains("SQLite holds the same 84 hours."), "{text}");
    assert!(text.contains("rows/s"), "{text}");

    let again = play(&args, &mut Vec::new()).await.unwrap_err();
    assert_eq!(again.code().0, "22023", "a directory with data is not played over");
}
