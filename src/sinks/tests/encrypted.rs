//! Encrypted connections to each target: with the right certificate, and without.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::fixture::{Database, MariaDb, Postgres, changes, plan};
use super::pg::private;
use crate::error::Report;
use crate::sinks::mysql::MysqlTarget;
use crate::sinks::mysql_session::Session;
use crate::sinks::mysql_url::MysqlUrl;
use crate::sinks::postgres::PostgresTarget;
use crate::sinks::sink::{SinkError, SinkMode, SinkTarget};
use crate::sinks::webhook::{WebhookSettings, WebhookTarget};

/// Delivers a row with the certificate, and fails with the public authorities.
fn check(target: impl Fn(Option<PathBuf>) -> Box<dyn SinkTarget>, certificate: &Path) {
    let plan = plan("1", SinkMode::Append);
    let deliver = |tls_ca| -> Result<u64, SinkError> {
        let mut target = target(tls_ca);
        let offset = target.prepare(&plan)?;
        let batch = changes(offset, "+a1");
        target.commit(&batch, offset, offset + 1, &mut |_| Ok(()))
    };
    assert_eq!(deliver(Some(certificate.to_path_buf())).unwrap(), 1);
    let error = deliver(None).unwrap_err();
    assert!(matches!(error, SinkError::Unavailable { .. }), "{error}");
    let detail = error.detail().unwrap();
    assert!(detail.contains("certificate") || detail.contains("UnknownIssuer"), "{detail}");
    let missing = deliver(Some("/nonexistent.pem".into())).unwrap_err();
    assert!(missing.detail().unwrap().contains("/nonexistent.pem"), "{missing:?}");
}

#[test]
fn postgres_is_spoken_to_in_private() {
    let Some(database) = Postgres::new() else { return };
    let Some(certificate) = &database.certificate else {
        println!("skipped: the server cannot encrypt");
        return;
    };
    let url = format!("{}&sslmode=require&application_name=private", database.url);
    check(|tls_ca| Box::new(PostgresTarget::new(url.clone(), tls_ca)), certificate);
    let mut target = PostgresTarget::new(url.clone(), Some(certificate.clone()));
    target.prepare(&plan("1", SinkMode::Append)).unwrap();
    let encrypted = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'private'";
    assert_eq!(database.sql(encrypted), ["t"]);
}

#[test]
fn mariadb_is_spoken_to_in_private() {
    let Some(database) = MariaDb::new() else { return };
    let Some(certificate) = &database.certificate else {
        println!("skipped: the server cannot encrypt");
        return;
    };
    let url = MysqlUrl { tls: true, ..database.url.clone() };
    check(|tls_ca| Box::new(MysqlTarget::new(url.clone(), tls_ca)), certificate);
    let cipher = "SELECT variable_value FROM information_schema.session_status \
                  WHERE variable_name = 'Ssl_cipher'";
    let mut session = Session::open(&url, Some(certificate), "s").unwrap();
    assert_ne!(session.value(cipher).unwrap().unwrap(), "");
    let mut session = Session::open(&database.url, None, "s").unwrap();
    assert_eq!(session.value(cipher).unwrap().unwrap(), "");
}

#[test]
fn a_webhook_is_spoken_to_in_private() {
    let folder = tempfile::tempdir().unwrap();
    let Some((certificate, key)) = private::certificate(folder.path(), None) else {
        println!("skipped: no openssl to make a certificate with");
        return;
    };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&certificate).unwrap().map(Result::unwrap).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("https://{}/", listener.local_addr().unwrap());
    std::thread::Builder::new()
        .spawn(move || {
            for client in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, client.unwrap());
                let (mut said, mut buffer) = (Vec::new(), [0; 4_096]);
                while !said.ends_with(b"]}") {
                    let Ok(length @ 1..) = stream.read(&mut buffer) else { break };
                    said.extend_from_slice(&buffer[..length]);
                }
                let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(answer).ok();
                stream.conn.send_close_notify();
                stream.flush().ok();
            }
        })
        .unwrap();
    let target = |tls_ca| -> Box<dyn SinkTarget> {
        let settings = WebhookSettings {
            url: url.clone(),
            authorization: None,
            timeout: Duration::from_secs(10),
            tls_ca,
        };
        Box::new(WebhookTarget::new(settings, folder.path().join("marks")))
    };
    check(target, &certificate);
}
