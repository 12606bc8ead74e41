//! Reads bytes in PostgreSQL's two forms, and writes them in hexadecimal.

/// `\x` and hexadecimal digits, two a byte; `None` for any other text.
pub fn parse_hex(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    for pair in digits.chunks_exact(2) {
        let high = (pair[0] as char).to_digit(16)?;
        let low = (pair[1] as char).to_digit(16)?;
        out.push((high * 16 + low) as u8);
    }
    Some(())
}

/// Bytes in either form of PostgreSQL: `\x` and hexadecimal digits, or the characters themselves with
/// `\\` for a backslash and `\ooo` for a byte; `None` for any other text.
pub fn parse_bytea(text: &str, out: &mut Vec<u8>) -> Option<()> {
    if text.starts_with("\\x") {
        return parse_hex(text, out);
    }
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = match (byte, behind) {
            (b'\\', [b'\\', behind @ ..]) => {
                out.push(b'\\');
                behind
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..]) => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                behind
            }
            (b'\\', _) => return None,
            _ => {
                out.push(byte);
                behind
            }
        };
    }
    Some(())
}

/// `\x00ff`.
pub fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\x");
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_come_to_the_same_bytes() {
        let read = |text: &str| {
            let mut bytes = Vec::new();
            parse_bytea(text, &mut bytes).map(|()| bytes)
        };
        assert_eq!(read("\\x41ff"), Some(vec![0x41, 0xff]));
        assert_eq!(read("A\\377"), Some(vec![0x41, 0xff]));
        assert_eq!(read("a\\\\b"), Some(b"a\\b".to_vec()));
        assert_eq!(read(""), Some(vec![]));
        for bad in ["\\x4", "\\xzz", "\\", "\\400", "\\b"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let mut text = Vec::new();
        write_hex(&[0x41, 0xff], &mut text);
        assert_eq!(text, b"\\x41ff");
    }
}
