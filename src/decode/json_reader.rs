//! Reads JSON from a cursor: strings, numbers, members, items, and whole values to be skipped.
//!
//! Strict RFC 8259, less what PostgreSQL's jsonb refuses too: lone surrogates and `\u0000`.

use super::builders::Scratch;
use super::error::Fault;

/// A cursor over JSON text. After an error its place is undefined.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: usize,
    /// How many more levels may be opened.
    pub(crate) levels: usize,
}

/// Where a string's characters are.
pub(crate) enum Str {
    /// Start and end in the text: it has no escapes.
    Plain(usize, usize),
    /// Start and end in [`Scratch::text`].
    Unescaped(usize, usize),
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte of `word` that is `"`, `\` or a control character. Only the lowest one
/// is certain: a borrow may mark bytes above it.
#[inline]
fn marks(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let escape = word ^ (ONES * b'\\' as u64);
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (zero(quote) | zero(escape) | control) & HIGHS
}

/// The place of the quote that closes a string without escapes, `None` where another mark is first.
#[inline]
pub(crate) fn plain_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let found = marks(u64::from_le_bytes(*chunk));
        if found != 0 {
            at += found.trailing_zeros() as usize / 8;
            return (bytes[at] == b'"').then_some(at);
        }
        at += 8;
    }
    // The last bytes of a row: rare enough for the careful way.
    None
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, at: usize, levels: usize) -> Reader<'a> {
        Reader { text, at, levels }
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// The characters of a string.
    pub(crate) fn chars<'s>(&self, string: &Str, scratch: &'s Scratch) -> &'s str
    where
        'a: 's,
    {
        match *string {
            Str::Plain(start, end) => &self.text[start..end],
            Str::Unescaped(start, end) => &scratch.text[start..end],
        }
    }

    #[inline]
    pub(crate) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    pub(crate) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.fault(what))
        }
    }

    pub(crate) fn fault(&self, expected: &'static str) -> Fault {
        Fault::Json(expected, self.at)
    }

    /// Steps over the next `"`, `\` or control character and returns it; the cursor is on it.
    #[inline]
    fn find_mark(&mut self) -> Result<u8, Fault> {
        let bytes = self.text.as_bytes();
        while let Some(chunk) = bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>) {
            let found = marks(u64::from_le_bytes(*chunk));
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return Ok(bytes[self.at]);
            }
            self.at += 8;
        }
        while let Some(byte) = self.peek() {
            if byte == b'"' || byte == b'\\' || byte < 0x20 {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(self.fault("a closing quote"))
    }

    /// A string, the cursor on its opening quote.
    #[inline]
    pub(crate) fn string(&mut self, scratch: &mut Scratch) -> Result<Str, Fault> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        if self.find_mark()? == b'"' {
            self.at += 1;
            return Ok(Str::Plain(start, self.at - 1));
        }
        self.escaped(start, scratch)
    }

    /// The rest of a string that started at `start` and has its first mark at the cursor.
    fn escaped(&mut self, start: usize, scratch: &mut Scratch) -> Result<Str, Fault> {
        let begin = scratch.text.len();
        let mut copied = start;
        loop {
            match self.find_mark()? {
                b'"' => {
                    scratch.text.push_str(&self.text[copied..self.at]);
                    self.at += 1;
                    return Ok(Str::Unescaped(begin, scratch.text.len()));
                }
                b'\\' => {
                    scratch.text.push_str(&self.text[copied..self.at]);
                    self.at += 1;
                    let unescaped = self.escape()?;
                    scratch.text.push(unescaped);
                    copied = self.at;
                }
                _ => return Err(self.fault("no control character in a string")),
            }
        }
    }

    /// One escape, the cursor behind its backslash.
    fn escape(&mut self) -> Result<char, Fault> {
        let byte = self.peek().ok_or_else(|| self.fault("an escape"))?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' => Ok(byte as char),
            b'b' => Ok('\u{8}'),
            b'f' => Ok('\u{c}'),
            b'n' => Ok('\n'),
            b'r' => Ok('\r'),
            b't' => Ok('\t'),
            b'u' => self.unicode_escape(),
            _ => Err(self.fault("an escape")),
        }
    }

    fn unicode_escape(&mut self) -> Result<char, Fault> {
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                    return Err(self.fault("the second half of a surrogate pair"));
                }
                self.at += 2;
                let second = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(self.fault("the second half of a surrogate pair"));
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            0 => return Err(self.fault("a character other than \\u0000")),
            other => other,
        };
        char::from_u32(code).ok_or_else(|| self.fault("no lone surrogate"))
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| (b as char).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.fault("four hexadecimal digits"))?;
            self.at += 1;
        }
        Ok(code)
    }

    /// Steps over a number; whether it is an integer.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<bool, Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let first = self.peek();
        let digits = self.digits();
        if digits == 0 || (digits > 1 && first == Some(b'0')) {
            return Err(self.fault("a value"));
        }
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.fault("a digit"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.fault("a digit"));
            }
        }
        Ok(integer)
    }

    #[inline]
    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    pub(crate) fn word(&mut self, word: &str) -> Result<(), Fault> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.fault("a value"))
        }
    }

    fn open(&mut self) -> Result<(), Fault> {
        self.levels = self.levels.checked_sub(1).ok_or(Fault::Deep)?;
        self.at += 1;
        Ok(())
    }

    /// Steps over a whole value and checks all of it.
    pub(crate) fn skip(&mut self, scratch: &mut Scratch) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"') => {
                let mark = scratch.text.len();
                self.string(scratch)?;
                scratch.text.truncate(mark);
                Ok(())
            }
            Some(b'{') => self.members(scratch, |reader, _, scratch| reader.skip(scratch)),
            Some(b'[') => self.items(scratch, |reader, scratch| reader.skip(scratch)),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number().map(|_| ()),
        }
    }

    /// Visits the members of the object at the cursor; `visit` steps over the value.
    pub(crate) fn members(
        &mut self,
        scratch: &mut Scratch,
        mut visit: impl FnMut(&mut Self, Str, &mut Scratch) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.peek() != Some(b'{') {
            return Err(self.fault("a JSON object"));
        }
        self.open()?;
        self.skip_blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.levels += 1;
            return Ok(());
        }
        loop {
            let key = self.string(scratch)?;
            self.skip_blanks();
            self.expect(b':', "a colon")?;
            self.skip_blanks();
            visit(self, key, scratch)?;
            self.skip_blanks();
            if self.peek() == Some(b',') {
                self.at += 1;
                self.skip_blanks();
                continue;
            }
            self.expect(b'}', "a comma or a closing brace")?;
            self.levels += 1;
            return Ok(());
        }
    }

    /// Visits the items of the array at the cursor; `visit` steps over the item.
    pub(crate) fn items(
        &mut self,
        scratch: &mut Scratch,
        mut visit: impl FnMut(&mut Self, &mut Scratch) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.open()?;
        self.skip_blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            self.levels += 1;
            return Ok(());
        }
        loop {
            visit(self, scratch)?;
            self.skip_blanks();
            if self.peek() == Some(b',') {
                self.at += 1;
                self.skip_blanks();
                continue;
            }
            self.expect(b']', "a comma or a closing bracket")?;
            self.levels += 1;
            return Ok(());
        }
    }
}
