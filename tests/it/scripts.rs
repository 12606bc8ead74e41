//! Runs the scripts of `tests/scripts`, each in all modes; one test per folder.

use std::path::{Path, PathBuf};

use weir::script::{Mode, run_file};

fn scripts(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "slt"));
    files.sort();
    files
}

/// Runs every script of a folder, and tells of all that do not hold.
fn check(folder: &str) {
    let files = scripts(folder);
    assert!(!files.is_empty(), "{folder} holds no script");
    let failures: Vec<String> = files
        .iter()
        .flat_map(|file| Mode::ALL.iter().map(move |mode| (file, *mode)))
        .filter_map(|(file, mode)| run_file(file, mode).err())
        .map(|failure| failure.to_string())
        .collect();
    assert!(failures.is_empty(), "{}\n{} failures", failures.join("\n"), failures.len());
}

#[test]
fn windows() {
    check("windows");
}

#[test]
fn over() {
    check("over");
}

#[test]
fn matches() {
    check("match");
}

#[test]
fn mining() {
    check("mining");
}

#[test]
fn lateness() {
    check("lateness");
}

#[test]
fn emit() {
    check("emit");
}

#[test]
fn queries() {
    check("queries");
}

#[test]
fn joins() {
    check("joins");
}

#[test]
fn recovery() {
    check("recovery");
}

#[test]
fn plans() {
    check("plans");
}

#[test]
fn errors() {
    check("errors");
}

#[test]
fn every_script_says_in_its_first_line_what_it_is_for() {
    for folder in ["windows", "lateness", "emit", "queries", "joins", "recovery", "plans", "errors"]
    {
        for file in scripts(folder) {
            let text = std::fs::read_to_string(&file).unwrap();
            let first = text.lines().next().unwrap_or_default();
            assert!(first.starts_with("# ") && first.len() > 20, "{}", file.display());
        }
    }
}
