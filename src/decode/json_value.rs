//! Reads JSON values as values of a column's type.

use super::builders::{Scratch, Slot};
use super::datetime;
use super::error::{Fault, ValueError};
use super::json_reader::{Reader, Str, plain_string_end};
use super::kind::{Kind, Member, slot_of_base64};
use super::values;

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

impl Reader<'_> {
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
