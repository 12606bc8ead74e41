//! Reads the options that say where the rows of a sink go, and opens the target that they name.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sinks::file::FileTarget;
use crate::sinks::file_format::FileFormat;
use crate::sinks::given::{Given, bad};
use crate::sinks::mysql::MysqlTarget;
use crate::sinks::mysql_url::MysqlUrl;
use crate::sinks::option_error::OptionError;
use crate::sinks::postgres::PostgresTarget;
use crate::sinks::run::SinkSettings;
use crate::sinks::sink::SinkTarget;
use crate::sinks::sqlite::SqliteTarget;
use crate::sinks::webhook::{WebhookSettings, WebhookTarget};

/// A kind of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// INTO POSTGRES.
    Postgres,
    /// INTO SQLITE.
    Sqlite,
    /// INTO MYSQL.
    Mysql,
    /// INTO FILE.
    File,
    /// INTO WEBHOOK.
    Webhook,
}

impl Kind {
    /// The kind behind INTO.
    pub fn parse(into: &str) -> Result<Kind, OptionError> {
        Ok(match into.to_ascii_uppercase().as_str() {
            "POSTGRES" | "POSTGRESQL" => Kind::Postgres,
            "SQLITE" => Kind::Sqlite,
            "MYSQL" | "MARIADB" => Kind::Mysql,
            "FILE" => Kind::File,
            "WEBHOOK" => Kind::Webhook,
            other => return Err(OptionError::Kind(other.into())),
        })
    }

    /// Whether the rows go into a table.
    pub fn has_table(self) -> bool {
        matches!(self, Kind::Postgres | Kind::Sqlite | Kind::Mysql)
    }

    /// Names of its options.
    pub(crate) fn known(self) -> &'static [&'static str] {
        match self {
            Kind::Postgres | Kind::Mysql => {
                &["url", "table", "mode", "key", "adopt", "add_columns", "tls_ca"]
            }
            Kind::Sqlite => &["path", "table", "mode", "key", "adopt", "add_columns"],
            Kind::File => {
                &["path", "format", "mode", "adopt", "roll_rows", "roll_bytes", "roll_time"]
            }
            Kind::Webhook => &[
                "url",
                "mode",
                "batch_rows",
                "batch_bytes",
                "linger",
                "timeout",
                "authorization",
                "tls_ca",
            ],
        }
    }
}

/// Where the rows go.
#[derive(Clone, PartialEq)]
pub enum TargetOptions {
    /// A SQLite file.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A PostgreSQL database.
    Postgres {
        /// `postgres://…`; may hold a password.
        url: String,
        /// Certificates to trust instead of the public ones.
        tls_ca: Option<PathBuf>,
    },
    /// A MySQL or MariaDB database.
    Mysql {
        /// `mysql://…`; may hold a password.
        url: MysqlUrl,
        /// Certificates to trust instead of the public ones.
        tls_ca: Option<PathBuf>,
    },
    /// Files in a directory.
    File {
        /// The directory.
        path: PathBuf,
        /// What is in the files.
        format: FileFormat,
        /// When a file is complete.
        roll: SinkSettings,
    },
    /// A server that takes POST requests.
    Webhook {
        /// How it is asked.
        settings: WebhookSettings,
        /// What one request carries.
        batch: SinkSettings,
    },
}

/// Leaves URLs out: they may hold a password.
impl fmt::Debug for TargetOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetOptions::Sqlite { path } => write!(f, "Sqlite({})", path.display()),
            TargetOptions::Postgres { .. } => f.write_str("Postgres(…)"),
            TargetOptions::Mysql { .. } => f.write_str("Mysql(…)"),
            TargetOptions::File { path, format, roll } => {
                let SinkSettings { batch_rows, batch_bytes, linger, .. } = roll;
                let path = path.display();
                write!(f, "File({path} {format:?} {batch_rows} {batch_bytes} {linger:?})")
            }
            TargetOptions::Webhook { batch, .. } => write!(f, "Webhook(… {})", batch.batch_rows),
        }
    }
}

impl TargetOptions {
    /// Reads the options of a kind.
    pub(crate) fn read(kind: Kind, given: &Given<'_>) -> Result<TargetOptions, OptionError> {
        Ok(match kind {
            Kind::Sqlite => {
                let path = given.required("path")?;
                if path == ":memory:" {
                    return Err(bad("path", "A database in memory would not outlive the server."));
                }
                TargetOptions::Sqlite { path: path.into() }
            }
            Kind::Postgres => {
                let url = given.required("url")?;
                // The parser's own message never holds the URL, which may hold a password.
                if let Err(error) = url.parse::<tokio_postgres::Config>() {
                    return Err(bad("url", &format!("{error}.")));
                }
                TargetOptions::Postgres { url, tls_ca: tls_ca(given)? }
            }
            Kind::Mysql => {
                let url = MysqlUrl::parse(&given.required("url")?);
                let url = url.map_err(|detail| bad("url", &detail))?;
                TargetOptions::Mysql { url, tls_ca: tls_ca(given)? }
            }
            Kind::File => read_file(given)?,
            Kind::Webhook => read_webhook(given)?,
        })
    }

    /// A target that is not connected yet. `marks` is the server's own folder for the marks of
    /// targets that cannot hold one.
    pub(crate) fn open(&self, marks: &Path) -> Box<dyn SinkTarget> {
        match self {
            TargetOptions::Sqlite { path } => Box::new(SqliteTarget::new(path.clone())),
            TargetOptions::Postgres { url, tls_ca } => {
                Box::new(PostgresTarget::new(url.clone(), tls_ca.clone()))
            }
            TargetOptions::Mysql { url, tls_ca } => {
                Box::new(MysqlTarget::new(url.clone(), tls_ca.clone()))
            }
            TargetOptions::File { path, format, .. } => {
                Box::new(FileTarget::new(path.clone(), *format))
            }
            TargetOptions::Webhook { settings, .. } => {
                Box::new(WebhookTarget::new(settings.clone(), marks.to_path_buf()))
            }
        }
    }

    /// When a transaction is committed.
    pub(crate) fn settings(&self) -> SinkSettings {
        match self {
            TargetOptions::Sqlite { .. }
            | TargetOptions::Postgres { .. }
            | TargetOptions::Mysql { .. } => SinkSettings::default(),
            TargetOptions::File { roll, .. } => *roll,
            TargetOptions::Webhook { batch, .. } => *batch,
        }
    }
}

fn tls_ca(given: &Given<'_>) -> Result<Option<PathBuf>, OptionError> {
    Ok(given.text("tls_ca")?.map(PathBuf::from))
}

fn read_file(given: &Given<'_>) -> Result<TargetOptions, OptionError> {
    let format = match given.text("format")?.map(|f| f.to_ascii_lowercase()).as_deref() {
        None | Some("ndjson") => FileFormat::Ndjson,
        Some("csv") => FileFormat::Csv,
        Some("parquet") => FileFormat::Parquet,
        Some(_) => return Err(bad("format", "It is one of 'ndjson', 'csv' and 'parquet'.")),
    };
    let roll = SinkSettings {
        batch_rows: given.count("roll_rows", 1_000_000, 100_000_000)?,
        batch_bytes: given.bytes("roll_bytes", 64 << 20)?,
        linger: given.duration("roll_time", Duration::from_secs(60))?,
        cuts: false,
    };
    Ok(TargetOptions::File { path: given.required("path")?.into(), format, roll })
}

fn read_webhook(given: &Given<'_>) -> Result<TargetOptions, OptionError> {
    let url = given.required("url")?;
    let parsed: Option<ureq::http::Uri> = url.parse().ok();
    let scheme = parsed.as_ref().and_then(|url| url.scheme_str());
    if !matches!(scheme, Some("http" | "https")) {
        return Err(bad("url", "It does not begin with http:// or https:// and a host."));
    }
    let authorization = given.text("authorization")?;
    if authorization
        .as_deref()
        .is_some_and(|value| value.chars().any(|c| !(' '..='~').contains(&c)))
    {
        return Err(bad("authorization", "A header holds printable ASCII only."));
    }
    let settings = WebhookSettings {
        url,
        authorization,
        timeout: given.duration("timeout", Duration::from_secs(10))?,
        tls_ca: tls_ca(given)?,
    };
    let batch = SinkSettings {
        batch_rows: given.count("batch_rows", 500, 1_000_000)?,
        batch_bytes: given.bytes("batch_bytes", 1 << 20)?,
        linger: given.duration("linger", Duration::from_millis(20))?,
        cuts: true,
    };
    Ok(TargetOptions::Webhook { settings, batch })
}
