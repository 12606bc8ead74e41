//! Checks the rules of STYLE.md that a compiler does not know, and says `file:line: rule; remedy`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use weir::error::SqlState;

/// Lines of a source file, without its tests.
const LINES_MAX: usize = 400;

/// Files that are longer than [`LINES_MAX`], how long each may be, and why it is.
const LONG: &[(&str, usize, &str)] =
    &[("src/engine/create.rs", 500, "four CREATE statements; splits by statement")];

/// Words that the glossary bans: each names what has another name.
const BANNED: &[(&str, &str)] =
    &[("waterline", "watermark"), ("grace", "allowed lateness"), ("lsn", "offset")];

#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, file: &str, line: usize, rule: &str, remedy: &str) {
        self.0.push(format!("{file}:{line}: {rule}; {remedy}"));
    }

    fn report(self) {
        assert!(self.0.is_empty(), "\n{}\n", self.0.join("\n"));
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder` whose names end in `suffix`, with their paths from the root.
fn files(folder: &str, suffix: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(path) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&path) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let generated = ["target", ".git", "weir-data", "corpus", "artifacts"];
            if path.is_dir() && !generated.contains(&name.as_str()) {
                open.push(path);
            } else if path.is_file() && name.ends_with(suffix) {
                let short = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                // What is not text has no rules here.
                if let Ok(text) = std::fs::read_to_string(&path) {
                    found.insert(short, text);
                }
            }
        }
    }
    found
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

fn documents() -> BTreeMap<String, String> {
    let mut documents = files("docs", ".md");
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            documents.insert(name.clone(), read(&name));
        }
    }
    documents
}

/// Whether all of a file is tests.
fn is_test(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or_default();
    file.contains("/tests/") || name.ends_with("tests.rs") || name.ends_with("_trial.rs")
}

/// The lines before a file's own tests.
fn without_tests(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let end = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "))
        .filter(|at| lines[at + 1].ends_with('{'));
    lines[..end.unwrap_or(lines.len())].to_vec()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[test]
fn every_source_file_says_what_it_does_and_stays_short() {
    let mut findings = Findings::default();
    let sources = files("src", ".rs");
    for (file, text) in &sources {
        if !text.starts_with("//! ") {
            findings.add(file, 1, "a file begins with what it does", "add a `//!` sentence");
        }
        let max = LONG.iter().find(|(long, ..)| long == file).map_or(LINES_MAX, |long| long.1);
        let lines = without_tests(text).len();
        if lines > max && !is_test(file) {
            let rule = format!("{lines} lines without tests, at most {max}");
            findings.add(file, max, &rule, "split the file by idea");
        }
    }
    for (file, ..) in LONG.iter().filter(|(file, ..)| !sources.contains_key(*file)) {
        findings.add("tests/it/tidy.rs", 1, &format!("{file} is gone"), "remove it from LONG");
    }
    findings.report();
}

#[test]
fn every_folder_of_the_source_is_on_the_map() {
    let mut findings = Findings::default();
    let map = read("ARCHITECTURE.md");
    for file in files("src", "mod.rs").keys().filter(|file| !is_test(file)) {
        let folder = file.trim_start_matches("src/").trim_end_matches("mod.rs");
        if !map.contains(folder) {
            let rule = format!("folder \"{folder}\" is not in ARCHITECTURE.md");
            findings.add(file, 1, &rule, "say there what it holds");
        }
    }
    findings.report();
}

/// The import table of ARCHITECTURE.md: layer to layers.
fn import_table() -> BTreeMap<String, Vec<String>> {
    let map = read("ARCHITECTURE.md");
    let names = |cell: &str| words(cell).map(str::to_string).collect::<Vec<_>>();
    map.lines()
        .skip_while(|line| !line.starts_with("| layer |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .flat_map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            let allowed = names(cells[2]);
            names(cells[1]).into_iter().map(move |layer| (layer, allowed.clone()))
        })
        .collect()
}

#[test]
fn layers_import_only_what_the_table_lets_them() {
    let mut findings = Findings::default();
    let table = import_table();
    assert!(table.len() > 10, "ARCHITECTURE.md has no import table");
    for (file, text) in files("src", ".rs").iter().filter(|(file, _)| !is_test(file)) {
        let layer = file.split('/').nth(1).unwrap_or_default().trim_end_matches(".rs");
        if layer == "lib" {
            continue;
        }
        let Some(allowed) = table.get(layer) else {
            findings.add(
                file,
                1,
                &format!("layer \"{layer}\" is not in the import table"),
                "add it to ARCHITECTURE.md",
            );
            continue;
        };
        for (index, line) in without_tests(text).iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for path in code.split("crate::").skip(1) {
                let Some(other) = words(path).next() else { continue };
                let is_layer = other.chars().all(|c| c.is_ascii_lowercase() || c == '_');
                if is_layer && other != layer && !allowed.iter().any(|name| name == other) {
                    let rule = format!("{layer} must not use {other}");
                    let remedy = "see \"Who may import whom\" in ARCHITECTURE.md";
                    findings.add(file, index + 1, &rule, remedy);
                }
            }
        }
    }
    findings.report();
}

#[test]
fn words_mean_what_the_glossary_says() {
    let mut findings = Findings::default();
    // Put together here, so that this file does not find itself.
    let unfinished = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let machine = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    for folder in ["src", "tests", "benches", "fuzz", "crates", "docs", ".ci", "queries"] {
        for (file, text) in files(folder, "") {
            for (index, line) in text.lines().enumerate() {
                for word in words(line).filter(|_| folder == "src") {
                    let banned = BANNED.iter().find(|(bad, _)| word.eq_ignore_ascii_case(bad));
                    if let Some((bad, good)) = banned {
                        let rule = format!("the glossary has no \"{bad}\"");
                        findings.add(&file, index + 1, &rule, &format!("write {good}"));
                    }
                }
                if words(line).any(|word| unfinished.contains(&word)) {
                    let remedy = "do it, or say in the document what is missing";
                    findings.add(&file, index + 1, "nothing is left to be done later", remedy);
                }
                if machine.iter().any(|path| line.contains(path)) {
                    let rule = "no paths of one machine";
                    findings.add(&file, index + 1, rule, "write a relative path");
                }
            }
        }
    }
    findings.report();
}

#[test]
fn every_error_code_is_explained() {
    let mut findings = Findings::default();
    let document = read("docs/errors.md");
    for state in SqlState::ALL {
        if !document.contains(&format!("| {state} |")) {
            let remedy = "add a row with its meaning, its cause and what to do";
            findings.add("docs/errors.md", 1, &format!("code {state} has no row"), remedy);
        }
    }
    findings.report();
}

#[test]
fn every_error_code_is_provoked() {
    let mut findings = Findings::default();
    let scripts = files("tests/scripts/errors", ".slt");
    let document = read("docs/errors.md");
    let (_, elsewhere) = document.split_once("## Where each is provoked").unwrap();
    let sources: Vec<String> = [files("src", ".rs"), files("tests", ".rs")]
        .into_iter()
        .flat_map(|all| all.into_values())
        .collect();
    for state in SqlState::ALL {
        let row = elsewhere.lines().find(|line| line.starts_with(&format!("| {state} |")));
        let script = scripts.keys().any(|file| file.ends_with(&format!("/{state}.slt")));
        let test = row.and_then(|row| row.split('`').nth(1));
        let found = test.is_some_and(|test| {
            let name = format!("fn {test}(");
            sources.iter().any(|source| source.contains(&name))
        });
        let known = row.is_some_and(|row| row.contains("nothing raises it"));
        if !script && !found && !known {
            let remedy = "add a script, or name a test in the last table";
            findings.add("docs/errors.md", 1, &format!("code {state} is not provoked"), remedy);
        }
    }
    findings.report();
}

#[test]
fn the_table_of_conformance_names_every_script_and_nothing_that_does_not_exist() {
    let mut findings = Findings::default();
    let file = "docs/conformance.md";
    let document = read(file);
    let scripts = files("tests/scripts", ".slt");
    let sources: Vec<String> = files("tests/it", ".rs").into_values().collect();
    for (index, line) in document.lines().enumerate() {
        for name in line.split('`').skip(1).step_by(2) {
            let there = if name.ends_with(".slt") {
                scripts.contains_key(&format!("tests/scripts/{name}"))
            } else if let Some((_, test)) =
                name.rsplit_once("::").filter(|(_, test)| !test.is_empty())
            {
                sources.iter().any(|source| source.contains(&format!("fn {test}(")))
            } else {
                true
            };
            if !there {
                let rule = format!("\"{name}\" does not exist");
                findings.add(file, index + 1, &rule, "name what shows the feature");
            }
        }
    }
    for script in scripts.keys().filter(|script| !script.starts_with("tests/scripts/errors/")) {
        let name = script.trim_start_matches("tests/scripts/");
        if !document.contains(&format!("`{name}`")) {
            let rule = format!("\"{name}\" is not named");
            findings.add(file, 1, &rule, "name it beside the feature that it shows");
        }
    }
    findings.report();
}

#[test]
fn every_document_has_one_title_and_no_dead_link() {
    let mut findings = Findings::default();
    for (file, text) in documents() {
        let mut fenced = false;
        let mut titles = 0;
        for (index, line) in text.lines().enumerate() {
            fenced ^= line.starts_with("```");
            titles += usize::from(!fenced && line.starts_with("# "));
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let target = target.split('#').next().unwrap_or_default();
                let local = !target.is_empty() && !target.contains("://");
                let folder = root().join(&file);
                let folder = folder.parent().unwrap();
                if local && !fenced && !folder.join(target).exists() {
                    let rule = format!("\"{target}\" does not exist");
                    findings.add(&file, index + 1, &rule, "mend the link");
                }
            }
        }
        if titles != 1 {
            findings.add(&file, 1, &format!("{titles} titles"), "one `# Title` per document");
        }
    }
    findings.report();
}

#[test]
fn every_query_file_asks_its_question_in_words() {
    let mut findings = Findings::default();
    for (file, text) in files("queries", ".sql") {
        if !text.starts_with("-- ") {
            findings.add(&file, 1, "a query begins with its question", "add a `-- ` comment");
        }
    }
    findings.report();
}

#[test]
fn every_dependency_was_decided_on() {
    let mut findings = Findings::default();
    let decisions: String = files("docs/decisions", ".md").into_values().collect();
    let mut section = "";
    for (index, text) in read("Cargo.toml").lines().enumerate() {
        if text.starts_with('[') {
            section = if text.ends_with("dependencies]") { "dependencies" } else { "" };
        } else if let Some((name, what)) = text.split_once(" = ")
            && section == "dependencies"
            && !what.contains("path =")
            && !decisions.contains(&format!("`{name}`"))
        {
            let rule = format!("nothing says why there is {name}");
            findings.add("Cargo.toml", index + 1, &rule, "add it to a record in docs/decisions");
        }
    }
    findings.report();
}
