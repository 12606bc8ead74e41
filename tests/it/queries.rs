//! Runs every file of `queries/` and checks its answer.

use std::path::Path;

use weir::client::demo::example::{Example, Step};

use crate::recordings::Lab;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[tokio::test(flavor = "multi_thread")]
async fn every_example_gives_the_answer_that_it_names() {
    let mut files: Vec<_> = std::fs::read_dir(Path::new(ROOT).join("queries"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "sql"))
        .collect();
    files.sort();
    assert!(files.len() >= 12);
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_string();
        let example = Example::parse(&name, &std::fs::read_to_string(&file).unwrap()).unwrap();
        if let Err(why) = play(&example).await {
            wrong.push(format!("{name}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

async fn play(example: &Example) -> Result<(), String> {
    let mut lab = Lab::new();
    let mut answer = None;
    for step in &example.steps {
        match step {
            Step::Feed { stream, file } => {
                let (accepted, rejected) = lab.feed(stream, &Path::new(ROOT).join(file)).await;
                if accepted == 0 || rejected > 0 {
                    return Err(format!("{file}: {accepted} rows stored, {rejected} refused"));
                }
            }
            Step::Sql(sql) => {
                // What the example writes belongs into the test's own directory.
                let path = lab.directory.path().join("hourly_hits.sqlite");
                let sql = sql.replace("hourly_hits.sqlite", path.to_str().unwrap());
                let execution = lab.engine.execute(&sql).await;
                if let Some(error) = execution.error {
                    return Err(error.to_string());
                }
                answer = execution.results.last().map(weir::client::demo::answer::Answer::of);
            }
        }
    }
    let answer = answer.unwrap_or_default();
    let difference = answer.difference(&example.answer);
    lab.end().await;
    if answer.columns != example.answer.columns {
        return Err(format!("columns are {:?}", answer.columns));
    }
    difference.map_or(Ok(()), |difference| Err(format!("{difference}\n{answer}")))
}
