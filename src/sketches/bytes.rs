//! Writes and reads the bytes of a summary: numbers of variable length, checked before they are used.

/// Appends a number in groups of seven bits, the lowest first.
pub fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends bytes behind their length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes a byte.
pub fn byte(from: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = from.split_first()?;
    *from = rest;
    Some(first)
}

/// Takes a number that [`put`] wrote.
pub fn take(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let part = byte(from)?;
        let bits = u64::from(part & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if part & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes a number of elements, each of which has at least one byte.
pub fn take_length(from: &mut &[u8]) -> Option<usize> {
    let length = usize::try_from(take(from)?).ok()?;
    (length <= from.len()).then_some(length)
}

/// Takes bytes that [`put_bytes`] wrote.
pub fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_length(from)?;
    let (taken, rest) = from.split_at(length);
    *from = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_cut_ones_do_not() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            let mut from = bytes.as_slice();
            assert_eq!(take(&mut from), Some(number));
            assert!(from.is_empty());
            assert_eq!(take(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take(&mut [0xff; 11].as_slice()), None);
        assert_eq!(take_bytes(&mut [5, 1].as_slice()), None);
    }
}
