//! Gathers the settings of a server: flags win over environment over `weir.toml` over defaults.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result, SqlState};
use crate::time::parse_duration;

/// The file that is read when none is named and it is there.
const FILE: &str = "weir.toml";

/// Shards that an operator may have.
pub const SHARDS_MAX: usize = 64;

/// Everything that can be set about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Address of HTTP, `127.0.0.1:4880`.
    pub http: String,
    /// Address of TCP ingest, `127.0.0.1:4881`.
    pub tcp: String,
    /// Address of the PostgreSQL protocol, `127.0.0.1:4882`; not served yet.
    pub pg: String,
    /// Least time between two snapshots of a query, in microseconds.
    pub snapshot_interval: i64,
    /// Shards of a GROUP BY of many keys; 1: it is never split.
    pub shards: usize,
}

/// The flags of `weir serve`; what is not given comes from elsewhere.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Where everything is kept [env: WEIR_DATA_DIR] [default: ./weir-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Settings file [env: WEIR_CONFIG] [default: weir.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of HTTP [env: WEIR_HTTP] [default: 127.0.0.1:4880]
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// Address of TCP ingest [env: WEIR_TCP] [default: 127.0.0.1:4881]
    #[arg(long, value_name = "HOST:PORT")]
    pub tcp: Option<String>,
    /// Address of the PostgreSQL protocol [env: WEIR_PG] [default: 127.0.0.1:4882]
    #[arg(long, value_name = "HOST:PORT")]
    pub pg: Option<String>,
    /// Least time between two snapshots of a query [env: WEIR_SNAPSHOT_INTERVAL] [default: 10 s]
    #[arg(long, value_name = "DURATION")]
    pub snapshot_interval: Option<String>,
    /// Shards into which a GROUP BY of many keys is split, 1 to 64 [env: WEIR_SHARDS] [default: 1]
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
}

/// The keys of `weir.toml`. A misspelt key is an error, or it would be ignored in silence.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    http: Option<String>,
    tcp: Option<String>,
    pg: Option<String>,
    snapshot_interval: Option<String>,
    shards: Option<usize>,
}

impl Config {
    /// The settings from all places; `environment` looks a variable up.
    pub fn gather(flags: &Flags, environment: impl Fn(&str) -> Option<String>) -> Result<Config> {
        let named = flags.config.clone().or_else(|| environment("WEIR_CONFIG").map(PathBuf::from));
        let file = match named {
            Some(path) => read(&path)?,
            None if Path::new(FILE).exists() => read(Path::new(FILE))?,
            None => File::default(),
        };
        let pick = |flag: &Option<String>, variable: &str, file: Option<String>, default: &str| {
            let found = flag.clone().or_else(|| environment(variable)).or(file);
            found.unwrap_or_else(|| default.to_string())
        };
        let interval = pick(
            &flags.snapshot_interval,
            "WEIR_SNAPSHOT_INTERVAL",
            file.snapshot_interval,
            "10 s",
        );
        let snapshot_interval = parse_duration(&interval).ok_or_else(|| {
            let message = format!("snapshot_interval '{interval}' is not valid");
            Error::new(SqlState::INVALID_PARAMETER, message)
                .with_hint("It is a duration such as '10 s' or '5 min'.")
        })?;
        let shards = flags.shards.clone().or_else(|| environment("WEIR_SHARDS"));
        let shards = shards.or(file.shards.map(|shards| shards.to_string()));
        let data_dir = flags.data_dir.clone();
        Ok(Config {
            data_dir: data_dir
                .or_else(|| environment("WEIR_DATA_DIR").map(PathBuf::from))
                .or(file.data_dir)
                .unwrap_or_else(|| PathBuf::from("./weir-data")),
            http: pick(&flags.http, "WEIR_HTTP", file.http, "127.0.0.1:4880"),
            tcp: pick(&flags.tcp, "WEIR_TCP", file.tcp, "127.0.0.1:4881"),
            pg: pick(&flags.pg, "WEIR_PG", file.pg, "127.0.0.1:4882"),
            snapshot_interval,
            shards: shards.map_or(Ok(1), |shards| number_of_shards(&shards))?,
        })
    }
}

fn number_of_shards(text: &str) -> Result<usize> {
    let number = text.trim().parse().ok().filter(|number| (1..=SHARDS_MAX).contains(number));
    number.ok_or_else(|| {
        let message = format!("shards '{text}' is not valid");
        Error::new(SqlState::INVALID_PARAMETER, message)
            .with_hint(format!("It is a number from 1 (no shards) to {SHARDS_MAX}."))
    })
}

fn read(path: &Path) -> Result<File> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(SqlState::IO, format!("could not read the settings file \"{shown}\""))
            .with_detail(error.to_string())
    })?;
    toml::from_str(&text).map_err(|error| {
        let message = format!("the settings file \"{shown}\" is not valid");
        Error::new(SqlState::INVALID_PARAMETER, message)
            .with_detail(error.to_string().trim().to_string())
            .with_hint("Its keys are data_dir, http, tcp, pg, snapshot_interval and shards.")
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let file = file("http = 'file:1'\ntcp = 'file:2'\npg = 'file:3'\n");
        let flags = Flags {
            config: Some(file.path().to_path_buf()),
            http: Some("flag:1".into()),
            ..Flags::default()
        };
        let environment = |name: &str| {
            matches!(name, "WEIR_HTTP" | "WEIR_TCP").then(|| "environment:2".to_string())
        };
        let config = Config::gather(&flags, environment).unwrap();
        assert_eq!(config.http, "flag:1");
        assert_eq!(config.tcp, "environment:2");
        assert_eq!(config.pg, "file:3");
        assert_eq!(config.data_dir, PathBuf::from("./weir-data"));
        assert_eq!(config.snapshot_interval, 10 * crate::time::SECOND);
        assert_eq!(config.shards, 1);
    }

    #[test]
    fn the_number_of_shards_comes_from_anywhere_and_has_bounds() {
        let file = file("shards = 3\n");
        let path = file.path().display().to_string();
        let gather = |flag: Option<&str>, variable: Option<&str>| {
            let flags = Flags { shards: flag.map(String::from), ..Flags::default() };
            let environment = |name: &str| match name {
                "WEIR_CONFIG" => Some(path.clone()),
                "WEIR_SHARDS" => variable.map(String::from),
                _ => None,
            };
            Config::gather(&flags, environment).map(|config| config.shards)
        };
        assert_eq!(gather(None, None).unwrap(), 3);
        assert_eq!(gather(None, Some("2")).unwrap(), 2);
        assert_eq!(gather(Some("1"), Some("2")).unwrap(), 1);
        for wrong in ["0", "65", "-1", "two", ""] {
            let error = gather(Some(wrong), None).unwrap_err();
            assert_eq!(error.code(), SqlState::INVALID_PARAMETER);
            assert!(error.hint().unwrap().contains("1 (no shards)"));
        }
    }

    #[test]
    fn a_misspelt_key_and_a_missing_file_are_errors() {
        let file = file("htttp = 'x'\n");
        let path = file.path().display().to_string();
        let environment = |name: &str| (name == "WEIR_CONFIG").then(|| path.clone());
        let error = Config::gather(&Flags::default(), environment).unwrap_err();
        assert_eq!(error.code(), SqlState::INVALID_PARAMETER);
        assert!(error.detail().unwrap().contains("htttp"));
        let flags = Flags { config: Some("/nowhere/weir.toml".into()), ..Flags::default() };
        assert_eq!(Config::gather(&flags, |_| None).unwrap_err().code(), SqlState::IO);
    }
}
