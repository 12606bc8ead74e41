//! Reads JSON from a cursor: strings, whole values to be skipped, and values of a column's type.
//!
//! Strict RFC 8259, less what PostgreSQL's jsonb refuses too: lone surrogates and `\u0000`.

use super::builders::{Scratch, Slot};
use super::datetime;
use super::error::{Fault, ValueError};
use super::kind::{Kind, Member, slot_of_base64};
use super::values;

/// A cursor over JSON text. After an error its place is undefined.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    text: &'a str,
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
fn plain_string_end(bytes: &[u8], start: usize) -> Option<usize> {
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

/// A JSON number of at most eighteen digits without an exponent.
struct PlainNumber {
    negative: bool,
    mantissa: u64,
    /// Digits behind the point.
    fraction: usize,
    length: usize,
}

impl PlainNumber {
    #[inline]
    fn read(bytes: &[u8]) -> Option<PlainNumber> {
        let negative = bytes.first() == Some(&b'-');
        let start = usize::from(negative);
        let (mut at, mut mantissa) = (start, 0u64);
        let mut digits = |at: &mut usize| {
            let first = *at;
            while let Some(digit) = bytes.get(*at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d <= 9)
            {
                // Wrapped values are thrown away below, with everything of more than 18 digits.
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
                *at += 1;
            }
            *at - first
        };
        let whole = digits(&mut at);
        if whole == 0 || (whole > 1 && bytes[start] == b'0') {
            return None;
        }
        let mut fraction = 0;
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            fraction = digits(&mut at);
            if fraction == 0 {
                return None;
            }
        }
        if whole + fraction > 18 || matches!(bytes.get(at), Some(b'e' | b'E')) {
            return None;
        }
        Some(PlainNumber { negative, mantissa, fraction, length: at })
    }
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
    fn number(&mut self) -> Result<bool, Fault> {
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

    fn word(&mut self, word: &str) -> Result<(), Fault> {
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

    /// Reads the value at the cursor if it has the plainest form of `kind`: a string without
    /// escapes, a short number, the usual form of a time. `None`, the cursor where it was, says
    /// nothing about the value: [`Reader::value`] judges it.
    #[inline]
    pub(crate) fn plain_value(&mut self, kind: &Kind) -> Option<Slot> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        match kind {
            Kind::Text if self.peek() == Some(b'"') => {
                let end = plain_string_end(bytes, start + 1)?;
                self.at = end + 1;
                Some(Slot::Line(start as u32 + 1, (end - start - 1) as u32))
            }
            Kind::Timestamp if self.peek() == Some(b'"') => {
                let (micros, length) = datetime::usual_timestamp(&bytes[start + 1..])?;
                let end = start + 1 + length;
                if bytes.get(end) != Some(&b'"') {
                    return None;
                }
                self.at = end + 1;
                Some(Slot::Int(micros))
            }
            Kind::Int { min, max } => {
                let number = PlainNumber::read(&bytes[start..])?;
                if number.fraction > 0 {
                    return None;
                }
                let size = i64::try_from(number.mantissa).ok()?;
                let value = if number.negative { -size } else { size };
                if value < *min || *max < value {
                    return None;
                }
                self.at = start + number.length;
                Some(Slot::Int(value))
            }
            Kind::Float64 => {
                let number = PlainNumber::read(&bytes[start..])?;
                let value = values::exact_f64(number.mantissa, number.fraction)?;
                self.at = start + number.length;
                Some(Slot::Float(if number.negative { -value } else { value }))
            }
            _ => None,
        }
    }

    /// Reads the value at the cursor as one of `kind`.
    #[inline]
    pub(crate) fn value(&mut self, kind: &Kind, scratch: &mut Scratch) -> Result<Slot, Fault> {
        match self.peek() {
            Some(b'"') => {
                let start = self.at;
                let string = self.string(scratch)?;
                match (kind, &string) {
                    (Kind::Text, Str::Plain(start, end)) => {
                        Ok(Slot::Line(*start as u32, (end - start) as u32))
                    }
                    (Kind::Timestamp, Str::Plain(start, end)) => {
                        Ok(kind.slot_of_text(&self.text[*start..*end], scratch)?)
                    }
                    _ => self.rare_string(start, &string, kind, scratch),
                }
            }
            Some(b'0'..=b'9' | b'-') => {
                let start = self.at;
                let integer = self.number()?;
                self.number_slot(start, integer, kind, scratch)
            }
            _ => self.rare_value(kind, scratch),
        }
    }

    #[inline]
    fn number_slot(
        &self,
        start: usize,
        integer: bool,
        kind: &Kind,
        scratch: &mut Scratch,
    ) -> Result<Slot, Fault> {
        let text = &self.text[start..self.at];
        match kind {
            Kind::Int { min, max } if integer => {
                Ok(Slot::Int(values::parse_int(text, *min, *max)?))
            }
            Kind::Int { min, max } => Ok(Slot::Int(values::integral_number(text, *min, *max)?)),
            Kind::Float64 => Ok(Slot::Float(values::parse_f64(text)?)),
            Kind::Text | Kind::Json => Ok(Slot::Line(start as u32, text.len() as u32)),
            Kind::Timestamp | Kind::Date => Err(ValueError::BareNumber.into()),
            Kind::Bytes => Err(ValueError::Syntax.into()),
            _ => Ok(kind.slot_of_text(text, scratch)?),
        }
    }

    fn rare_string(
        &mut self,
        start: usize,
        string: &Str,
        kind: &Kind,
        scratch: &mut Scratch,
    ) -> Result<Slot, Fault> {
        match (kind, string) {
            (Kind::Json, _) => Ok(Slot::Line(start as u32, (self.at - start) as u32)),
            (Kind::Text, Str::Unescaped(begin, end)) => {
                Ok(Slot::Text(*begin as u32, (end - begin) as u32))
            }
            (Kind::Bytes, Str::Plain(begin, end)) => {
                Ok(slot_of_base64(&self.text[*begin..*end], scratch)?)
            }
            (_, Str::Plain(begin, end)) => {
                Ok(kind.slot_of_text(&self.text[*begin..*end], scratch)?)
            }
            (_, Str::Unescaped(begin, end)) => {
                // Escapes in a number or a time are so rare that a copy does not matter.
                let text = scratch.text[*begin..*end].to_string();
                match kind {
                    Kind::Bytes => Ok(slot_of_base64(&text, scratch)?),
                    _ => Ok(kind.slot_of_text(&text, scratch)?),
                }
            }
        }
    }

    fn rare_value(&mut self, kind: &Kind, scratch: &mut Scratch) -> Result<Slot, Fault> {
        let start = self.at;
        match (self.peek(), kind) {
            (Some(b'n'), _) => self.word("null").map(|()| Slot::Null),
            (Some(b'['), Kind::List(item)) => self.list(item, scratch),
            (Some(b'{'), Kind::Struct(members)) => self.structure(members, scratch),
            _ => {
                self.skip(scratch)?;
                let text = &self.text[start..self.at];
                match kind {
                    Kind::Text | Kind::Json => Ok(Slot::Line(start as u32, text.len() as u32)),
                    Kind::Bool => Ok(kind.slot_of_text(text, scratch)?),
                    Kind::Unsupported => Err(ValueError::Unsupported.into()),
                    Kind::Timestamp | Kind::Date => Err(ValueError::DatetimeSyntax.into()),
                    _ => Err(ValueError::Syntax.into()),
                }
            }
        }
    }

    fn list(&mut self, item: &Kind, scratch: &mut Scratch) -> Result<Slot, Fault> {
        let base = scratch.stack.len();
        self.items(scratch, |reader, scratch| {
            let slot = reader.value(item, scratch)?;
            scratch.stack.push(slot);
            Ok(())
        })?;
        let count = (scratch.stack.len() - base) as u32;
        Ok(Slot::List(scratch.settle(base), count))
    }

    fn structure(&mut self, fields: &[Member], scratch: &mut Scratch) -> Result<Slot, Fault> {
        let base = scratch.stack.len();
        scratch.stack.resize(base + fields.len(), Slot::Missing);
        let mut wrong: Vec<Option<Fault>> = Vec::new();
        self.members(scratch, |reader, key, scratch| {
            let key = reader.chars(&key, scratch);
            let field = fields.iter().position(|field| field.name == key);
            let start = reader.at;
            reader.skip(scratch)?;
            let Some(field) = field else { return Ok(()) };
            // The last one of equal keys counts, so an error waits until all are seen.
            let mut again = Reader::new(reader.text, start, reader.levels);
            let read = again.value(&fields[field].kind, scratch);
            wrong.resize(fields.len(), None);
            wrong[field] = read.err();
            scratch.stack.truncate(base + fields.len());
            scratch.stack[base + field] = read.unwrap_or(Slot::Null);
            Ok(())
        })?;
        if let Some(fault) = wrong.into_iter().flatten().next() {
            return Err(fault);
        }
        let slots = &scratch.stack[base..];
        if fields.iter().zip(slots).any(|(field, slot)| !field.nullable && slot.is_null()) {
            return Err(ValueError::Null.into());
        }
        Ok(Slot::Struct(scratch.settle(base)))
    }
}
