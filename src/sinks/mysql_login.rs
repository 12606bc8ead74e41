//! Proves to a MySQL or MariaDB server that one knows the password.

use std::io;

use sha1::Sha1;
use sha2::Sha256;

use crate::sinks::mysql_wire::nonsense;

/// What is sent with the login, for the way that the server prefers; empty where it must ask again.
pub(crate) fn first(plugin: &str, password: &str, nonce: &[u8]) -> Vec<u8> {
    match plugin {
        "mysql_native_password" | "caching_sha2_password" => {
            // Encryption matters only where the password itself is sent.
            answer(plugin, password, nonce, false).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// The answer to a server that asks for a way of logging in.
pub(crate) fn answer(
    plugin: &str,
    password: &str,
    nonce: &[u8],
    encrypted: bool,
) -> io::Result<Vec<u8>> {
    match plugin {
        "mysql_native_password" | "caching_sha2_password" if password.is_empty() => Ok(Vec::new()),
        "mysql_native_password" => Ok(native(password, nonce)),
        "caching_sha2_password" => Ok(caching(password, nonce)),
        "mysql_clear_password" if encrypted => {
            let mut bytes = password.as_bytes().to_vec();
            bytes.push(0);
            Ok(bytes)
        }
        "mysql_clear_password" => Err(nonsense(
            "the server wants the password itself, which is sent over TLS only: add \
             ssl-mode=REQUIRED to the URL",
        )),
        other => Err(nonsense(&format!(
            "the user logs in with {other}, which is not supported; mysql_native_password and \
             caching_sha2_password are"
        ))),
    }
}

/// SHA1(password) xor SHA1(nonce + SHA1(SHA1(password))).
fn native(password: &str, nonce: &[u8]) -> Vec<u8> {
    use sha1::Digest;
    let once = Sha1::digest(password.as_bytes());
    let twice = Sha1::digest(once);
    let mask = Sha1::new().chain_update(nonce).chain_update(twice).finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

/// SHA256(password) xor SHA256(SHA256(SHA256(password)) + nonce).
fn caching(password: &str, nonce: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    let once = Sha256::digest(password.as_bytes());
    let twice = Sha256::digest(once);
    let mask = Sha256::new().chain_update(twice).chain_update(nonce).finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(plugin: &str, nonce: &[u8], expected: &str) {
        let bytes = answer(plugin, "secret", nonce, false).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    /// The expected digests were computed with Python's hashlib by the formulas above.
    #[test]
    fn digests_follow_the_protocol() {
        let nonce: Vec<u8> = (1..=20).collect();
        check("mysql_native_password", &nonce, NATIVE);
        check("caching_sha2_password", &nonce, CACHING);
        assert!(answer("caching_sha2_password", "", &nonce, false).unwrap().is_empty());
    }

    #[test]
    fn the_password_itself_is_sent_over_tls_only() {
        assert!(answer("mysql_clear_password", "secret", &[], false).is_err());
        assert_eq!(answer("mysql_clear_password", "secret", &[], true).unwrap(), b"secret\0");
        let error = answer("client_ed25519", "secret", &[], true).unwrap_err().to_string();
        assert!(error.contains("client_ed25519") && !error.contains("secret"), "{error}");
    }

    const NATIVE: &str = "b32bb3a583e1340c0a1108d58b1be49781ad8c2f";
    const CACHING: &str = "746ebe205d56a0707acb3e796e834e0dd7b1d61743b26bd5202c7a623230c7c9";
}
