//! Writes a summary's numbers one behind the other and reads them back, checked.

/// Bytes of a summary on their way out.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Begins with the version of the form.
    pub fn new(version: u8) -> Writer {
        Writer { bytes: vec![version] }
    }

    /// A number, short where it is small.
    pub fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// A number with a sign, short where it is near zero.
    pub fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    /// Eight bytes.
    pub fn word(&mut self, word: u64) {
        self.bytes.extend_from_slice(&word.to_le_bytes());
    }

    /// A text with its length.
    pub fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text);
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Bytes that are no summary of the kind, with what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes of a summary cannot be read: {0}")]
pub struct Malformed(pub &'static str);

/// Bytes of a summary on their way in.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks the version.
    pub fn new(bytes: &'a [u8], version: u8) -> Result<Reader<'a>, Malformed> {
        match bytes.split_first() {
            Some((found, rest)) if *found == version => Ok(Reader { rest }),
            Some(_) => Err(Malformed("another version wrote them")),
            None => Err(Malformed("there are none")),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or(Malformed("they end too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed("a number is too long"))
    }

    /// A number with a sign.
    pub fn signed(&mut self) -> Result<i64, Malformed> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// Eight bytes.
    pub fn word(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    /// A text.
    pub fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_| Malformed("a text is too long"))?)
    }

    /// A number of things that take at least one byte each.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.number()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            _ => Err(Malformed("they end too early")),
        }
    }

    /// Whether all was read.
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("they go on too long")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::new(7);
        let numbers = [0, 1, 127, 128, 300, u64::MAX];
        let signed = [0, -1, 1, i64::MIN, i64::MAX, -300];
        numbers.iter().for_each(|n| writer.number(*n));
        signed.iter().for_each(|n| writer.signed(*n));
        writer.word(42);
        writer.text(b"abc");
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes, 7).unwrap();
        numbers.iter().for_each(|n| assert_eq!(reader.number(), Ok(*n)));
        signed.iter().for_each(|n| assert_eq!(reader.signed(), Ok(*n)));
        assert_eq!(reader.word(), Ok(42));
        assert_eq!(reader.text(), Ok(&b"abc"[..]));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn bytes_that_are_cut_short_or_foreign_are_refused() {
        assert!(Reader::new(&[], 1).is_err());
        assert!(Reader::new(&[2], 1).is_err());
        let mut short = Reader::new(&[1, 5, b'a'], 1).unwrap();
        assert!(short.text().is_err());
        let mut endless = Reader::new(&[1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255], 1).unwrap();
        assert!(endless.number().is_err());
        assert!(Reader::new(&[1, 0], 1).unwrap().end().is_err());
    }
}
