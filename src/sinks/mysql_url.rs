//! Reads `mysql://user:password@host:port/database?ssl-mode=…`.

use std::fmt;

/// Where a MySQL or MariaDB database is.
#[derive(Clone, PartialEq, Eq)]
pub struct MysqlUrl {
    /// The machine.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The password; may be empty.
    pub password: String,
    /// The database.
    pub database: String,
    /// Whether the connection is encrypted and the server's certificate checked.
    pub tls: bool,
}

/// Leaves the password out.
impl fmt::Debug for MysqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mysql://{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

impl MysqlUrl {
    /// Reads a URL. The error never holds it, because it may hold a password.
    pub fn parse(text: &str) -> Result<MysqlUrl, String> {
        let url = url::Url::parse(text).map_err(|error| format!("It is no URL: {error}."))?;
        if !matches!(url.scheme(), "mysql" | "mariadb") {
            return Err("It does not begin with mysql:// or mariadb://.".into());
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("It names no host.")?;
        let database = decode(url.path().trim_start_matches('/'))?;
        if database.is_empty() || database.contains('/') {
            return Err("It names no database: mysql://user@host/database.".into());
        }
        let mut tls = false;
        for (name, value) in url.query_pairs() {
            if name != "ssl-mode" {
                return Err("Its only parameter is ssl-mode.".into());
            }
            tls = match value.to_ascii_uppercase().as_str() {
                "DISABLED" => false,
                "REQUIRED" | "VERIFY_CA" | "VERIFY_IDENTITY" => true,
                _ => {
                    return Err("ssl-mode is one of DISABLED, REQUIRED and VERIFY_IDENTITY.".into());
                }
            };
        }
        Ok(MysqlUrl {
            host: host.trim_start_matches('[').trim_end_matches(']').into(),
            port: url.port().unwrap_or(3306),
            user: decode(url.username())?,
            password: decode(url.password().unwrap_or_default())?,
            database,
            tls,
        })
    }
}

/// Text without its percent signs.
fn decode(text: &str) -> Result<String, String> {
    let bad = || "It holds a percent sign that begins no byte of UTF-8.".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(bad)?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_who() {
        let url = MysqlUrl::parse("mysql://me:p%40ss@h:3307/d%20b?ssl-mode=required").unwrap();
        assert_eq!(format!("{url:?}"), "mysql://me@h:3307/d b");
        assert_eq!((url.password.as_str(), url.tls), ("p@ss", true));
        let url = MysqlUrl::parse("mariadb://[::1]/d").unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.user.as_str(), url.tls),
            ("::1", 3306, "", false)
        );
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for bad in [
            "",
            "postgres://u:secret@h/d",
            "mysql://u:secret@h",
            "mysql://u:secret@h/d/e",
            "mysql://u:secret@h/d?x=1",
            "mysql://u:secret@h/d?ssl-mode=perhaps",
            "mysql://u:secret%f@h/d",
            "mysql:///d",
        ] {
            let error = MysqlUrl::parse(bad).unwrap_err();
            assert!(!error.contains("secret"), "{bad}: {error}");
        }
    }
}
