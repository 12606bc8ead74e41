//! Feeds bytes to a TCP connection's framing: no input may panic, no byte may be lost, and where the
//! network cuts must not matter.

use weir::server::rows_of_connection;

/// Checks one input; its first two bytes say how the rest is cut.
pub(crate) fn check(input: &[u8]) {
    let Some((&[width, limit], bytes)) = input.split_first_chunk::<2>() else { return };
    let pieces: Vec<&[u8]> = bytes.chunks(1 + usize::from(width)).collect();
    // Rows beyond the limit are reported as far as they came, which depends on the cuts.
    drop(rows_of_connection(&pieces, usize::from(limit)));
    let (Ok(cut), Ok(whole)) =
        (rows_of_connection(&pieces, usize::MAX), rows_of_connection(&[bytes], usize::MAX))
    else {
        assert!(rows_of_connection(&[bytes], usize::MAX).is_err());
        return;
    };
    let join = |groups: &[(Vec<u8>, u64)]| -> Vec<u8> {
        groups.iter().flat_map(|(bytes, _)| bytes.clone()).collect()
    };
    let header = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
    // A byte order mark before the first row is no part of it.
    let rows = &bytes[header..];
    let rows = rows.strip_prefix(b"\xef\xbb\xbf").unwrap_or(rows);
    assert_eq!(join(&whole), rows);
    assert_eq!(join(&cut), rows);
    let mut line = 1;
    for (bytes, first_line) in &cut {
        assert_eq!(*first_line, line);
        line += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}
