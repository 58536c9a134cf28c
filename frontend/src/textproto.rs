//! Text protobufs: parsed by the descriptor table into the binary form, which prost then decodes.

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::proto::{ENUMS, Field, Kind, MESSAGES};
use prost::encoding::{encode_varint, encoded_len_varint};

/// Fields that TensorFlow writes and graphc has no use for. Any other unknown field is an error, so that a typing mistake is not
/// silently a default value.
const IGNORED: &[&str] = &[
    "experimental_type",
    "experimental_debug_info",
    "experimental_full_type",
    "debug_info",
    "handle_data",
    "description",
    "summary",
    "deprecation",
    "any_info",
    "object_graph_def",
    "type_spec",
    "slot_variables",
    "dependencies",
    "saveable_objects",
    "registered_name",
    "serialized_user_proto",
    "registered_saver",
    "user_object",
    "function",
    "bare_concrete_function",
    "resource",
    "captured_tensor",
    "concrete_functions",
    "synchronization",
    "aggregation",
    "experimental_distributed_variable_components",
    "has_checkpoint_values",
];

#[derive(Clone, Copy, PartialEq, Debug)]
enum Token<'a> {
    /// Name, number or keyword.
    Word(&'a str),
    /// The inside of a quoted string, escapes unresolved.
    Quoted(&'a [u8]),
    /// `[type.url]` or `[extension]`; also opens a list.
    Punct(u8),
    End,
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    peeked: Option<Token<'a>>,
    limits: &'a Limits,
}

/// Name of the first field of a text protobuf.
pub(crate) fn first_field(text: &[u8]) -> Option<&str> {
    let limits = Limits::default();
    let mut parser = Parser { text, at: 0, line: 1, peeked: None, limits: &limits };
    match parser.next().ok()? {
        Token::Word(w) => text_of(text, w),
        _ => None,
    }
}

/// The same word, borrowed from the text rather than from the parser.
fn text_of<'a>(text: &'a [u8], word: &str) -> Option<&'a str> {
    let start = (word.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    std::str::from_utf8(text.get(start..start + word.len())?).ok()
}

/// Parses a text protobuf of the message with this index and returns its binary form.
pub(crate) fn parse(text: &[u8], message: usize, limits: &Limits) -> Result<Vec<u8>> {
    let mut parser = Parser { text, at: 0, line: 1, peeked: None, limits };
    let mut out = Vec::with_capacity(text.len() / 2);
    parser.message(message, None, 0, &mut out)?;
    Ok(out)
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, detail: impl Into<String>) -> Result<T> {
        Err(Error::from(ErrorKind::TextProto { line: self.line, detail: detail.into() }))
    }

    fn peek(&mut self) -> Result<Token<'a>> {
        match self.peeked {
            Some(t) => Ok(t),
            None => {
                let t = self.scan()?;
                self.peeked = Some(t);
                Ok(t)
            }
        }
    }

    fn next(&mut self) -> Result<Token<'a>> {
        match self.peeked.take() {
            Some(t) => Ok(t),
            None => self.scan(),
        }
    }

    /// Takes the punctuation if it is next.
    fn take(&mut self, punct: u8) -> Result<bool> {
        let is = self.peek()? == Token::Punct(punct);
        if is {
            self.peeked = None;
        }
        Ok(is)
    }

    fn scan(&mut self) -> Result<Token<'a>> {
        while let Some(&c) = self.text.get(self.at) {
            match c {
                b'\n' => {
                    self.line += 1;
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'#' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
                }
                b'"' | b'\'' => return self.quoted(c),
                c if word_byte(c) => {
                    let rest = &self.text[self.at..];
                    let len = rest.iter().position(|&b| !word_byte(b)).unwrap_or(rest.len());
                    self.at += len;
                    return match std::str::from_utf8(&rest[..len]) {
                        Ok(w) => Ok(Token::Word(w)),
                        Err(_) => self.fail("text is not UTF-8"),
                    };
                }
                c => {
                    self.at += 1;
                    return Ok(Token::Punct(c));
                }
            }
        }
        Ok(Token::End)
    }

    fn quoted(&mut self, quote: u8) -> Result<Token<'a>> {
        let start = self.at + 1;
        let mut at = start;
        while let Some(&c) = self.text.get(at) {
            match c {
                b'\\' => at += 2,
                b'\n' => break,
                c if c == quote => {
                    self.at = at + 1;
                    return Ok(Token::Quoted(&self.text[start..at]));
                }
                _ => at += 1,
            }
        }
        self.fail("a string is not closed")
    }

    /// Parses fields up to `close` (None: the end of the text) into `out`.
    fn message(&mut self, message: usize, close: Option<u8>, depth: usize, out: &mut Vec<u8>) -> Result<()> {
        if depth > self.limits.max_nesting {
            return self.fail(format!("messages nest deeper than the {} of Limits::max_nesting", self.limits.max_nesting));
        }
        loop {
            match self.next()? {
                Token::End if close.is_none() => return Ok(()),
                Token::Punct(c) if Some(c) == close => return Ok(()),
                Token::Punct(b',' | b';') => {}
                Token::Punct(b'[') => {
                    // An extension or the expanded form of Any: nothing here has them.
                    while self.next()? != Token::Punct(b']') {
                        if self.peek()? == Token::End {
                            return self.fail("the text ends inside [ ]");
                        }
                    }
                    self.skip_value(depth + 1)?;
                }
                Token::Word(name) => match MESSAGES[message].fields.iter().find(|f| f.name == name) {
                    Some(field) => self.field(field, depth, out)?,
                    None if IGNORED.contains(&name) => self.skip_value(depth + 1)?,
                    None => {
                        let message = MESSAGES[message].name.trim_start_matches("graphc.tf.");
                        return self.fail(format!("{message} has no field {name:?}"));
                    }
                },
                Token::End => return self.fail("the text ends inside a message"),
                other => return self.fail(format!("a field name is expected, not {}", describe(other))),
            }
        }
    }

    fn field(&mut self, field: &Field, depth: usize, out: &mut Vec<u8>) -> Result<()> {
        let colon = self.take(b':')?;
        if self.take(b'[')? {
            if !field.repeated {
                return self.fail(format!("field {:?} takes one value, not a list", field.name));
            }
            if self.take(b']')? {
                return Ok(());
            }
            loop {
                self.value(field, true, depth, out)?;
                if self.take(b']')? {
                    return Ok(());
                }
                if !self.take(b',')? {
                    return self.fail("a comma or ] is expected in a list");
                }
            }
        }
        self.value(field, colon, depth, out)
    }

    fn value(&mut self, field: &Field, colon: bool, depth: usize, out: &mut Vec<u8>) -> Result<()> {
        if let Kind::Message(inner) = field.kind {
            let close = match self.next()? {
                Token::Punct(b'{') => b'}',
                Token::Punct(b'<') => b'>',
                other => return self.fail(format!("{{ is expected after {:?}, not {}", field.name, describe(other))),
            };
            let mut body = Vec::new();
            self.message(inner, Some(close), depth + 1, &mut body)?;
            key(field.number, 2, out);
            encode_varint(body.len() as u64, out);
            out.extend_from_slice(&body);
            return Ok(());
        }
        if !colon {
            return self.fail(format!("a colon is expected after {:?}", field.name));
        }
        match field.kind {
            Kind::String | Kind::Bytes => {
                let bytes = self.string()?;
                key(field.number, 2, out);
                encode_varint(bytes.len() as u64, out);
                out.extend_from_slice(&bytes);
            }
            Kind::Float => {
                let v = self.float()? as f32;
                key(field.number, 5, out);
                out.extend_from_slice(&v.to_le_bytes());
            }
            Kind::Double => {
                let v = self.float()?;
                key(field.number, 1, out);
                out.extend_from_slice(&v.to_le_bytes());
            }
            Kind::Fixed32 => {
                let v = self.integer(0, u32::MAX.into())?;
                key(field.number, 5, out);
                out.extend_from_slice(&(v as u32).to_le_bytes());
            }
            Kind::Bool => {
                let v = match self.word()? {
                    "true" | "True" | "t" | "1" => 1,
                    "false" | "False" | "f" | "0" => 0,
                    other => return self.fail(format!("true or false is expected, not {other:?}")),
                };
                key(field.number, 0, out);
                out.push(v);
            }
            Kind::Enum(e) => {
                let v = match self.peek()? {
                    Token::Word(w) => ENUMS[e].iter().find(|(n, _)| *n == w).map(|(_, v)| i128::from(*v)),
                    _ => None,
                };
                let v = match v {
                    Some(v) => {
                        self.peeked = None;
                        v
                    }
                    None => self.integer(i32::MIN.into(), i32::MAX.into())?,
                };
                key(field.number, 0, out);
                encode_varint(v as i64 as u64, out);
            }
            Kind::Int32 => self.varint(field, i32::MIN.into(), i32::MAX.into(), out)?,
            Kind::Int64 => self.varint(field, i64::MIN.into(), i64::MAX.into(), out)?,
            Kind::Uint32 => self.varint(field, 0, u32::MAX.into(), out)?,
            Kind::Uint64 => self.varint(field, 0, u64::MAX.into(), out)?,
            Kind::Message(_) => {}
        }
        Ok(())
    }

    fn varint(&mut self, field: &Field, min: i128, max: i128, out: &mut Vec<u8>) -> Result<()> {
        let v = self.integer(min, max)?;
        key(field.number, 0, out);
        // Two's complement of 64 bits, for signed and unsigned alike.
        encode_varint(v as u64, out);
        Ok(())
    }

    fn word(&mut self) -> Result<&'a str> {
        match self.next()? {
            Token::Word(w) => Ok(w),
            other => self.fail(format!("a value is expected, not {}", describe(other))),
        }
    }

    /// A word with the minus signs before it; the scanner keeps `-` inside words but allows a space after it.
    fn signed_word(&mut self) -> Result<(bool, &'a str)> {
        let word = self.word()?;
        match word.strip_prefix('-') {
            Some("") => Ok((true, self.word()?)),
            Some(rest) => Ok((true, rest)),
            None => Ok((false, word)),
        }
    }

    fn integer(&mut self, min: i128, max: i128) -> Result<i128> {
        let (negative, word) = self.signed_word()?;
        let parsed = if let Some(hex) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            u64::from_str_radix(hex, 16)
        } else if word.len() > 1 && word.starts_with('0') {
            u64::from_str_radix(word, 8)
        } else {
            word.parse()
        };
        let Ok(magnitude) = parsed else { return self.fail(format!("an integer is expected, not {word:?}")) };
        let value = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
        if value < min || value > max { self.fail(format!("{value} is out of range")) } else { Ok(value) }
    }

    fn float(&mut self) -> Result<f64> {
        let (negative, word) = self.signed_word()?;
        let lower = word.to_ascii_lowercase();
        let magnitude = match lower.as_str() {
            "inf" | "infinity" | "inff" | "infinityf" => Ok(f64::INFINITY),
            "nan" | "nanf" => Ok(f64::NAN),
            number => number.strip_suffix('f').unwrap_or(number).parse::<f64>(),
        };
        match magnitude {
            Ok(v) => Ok(if negative { -v } else { v }),
            Err(_) => self.fail(format!("a number is expected, not {word:?}")),
        }
    }

    /// One or more adjacent quoted strings.
    fn string(&mut self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut any = false;
        while let Token::Quoted(raw) = self.peek()? {
            self.peeked = None;
            any = true;
            if unescape(raw, &mut out).is_none() {
                return self.fail("a string has a bad escape");
            }
        }
        if any { Ok(out) } else { self.fail("a quoted string is expected") }
    }

    /// Skips the value of a field that is not needed, nested messages included.
    fn skip_value(&mut self, depth: usize) -> Result<()> {
        if depth > self.limits.max_nesting {
            return self.fail("messages nest too deeply");
        }
        self.take(b':')?;
        let mut open = 0usize;
        loop {
            match self.next()? {
                Token::Punct(b'{' | b'<' | b'[') => open += 1,
                Token::Punct(b'}' | b'>' | b']') => {
                    let Some(left) = open.checked_sub(1) else { return self.fail("a value is expected") };
                    open = left;
                }
                Token::End => return self.fail("the text ends inside a value"),
                Token::Quoted(_) if open == 0 => {
                    while let Token::Quoted(_) = self.peek()? {
                        self.peeked = None;
                    }
                }
                _ => {}
            }
            if open == 0 {
                return Ok(());
            }
        }
    }
}

fn word_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'+')
}

fn describe(token: Token<'_>) -> String {
    match token {
        Token::Word(w) => format!("{:?}", w.chars().take(40).collect::<String>()),
        Token::Quoted(_) => "a string".into(),
        Token::Punct(c) => format!("{:?}", char::from(c)),
        Token::End => "the end of the text".into(),
    }
}

fn key(number: u32, wire_type: u32, out: &mut Vec<u8>) {
    out.reserve(encoded_len_varint(u64::from(number) << 3));
    encode_varint(u64::from(number << 3 | wire_type), out);
}

/// Resolves the escapes of C strings.
fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = raw;
    while let Some((&c, tail)) = rest.split_first() {
        rest = tail;
        if c != b'\\' {
            out.push(c);
            continue;
        }
        let (&c, tail) = rest.split_first()?;
        rest = tail;
        let digits =
            |rest: &[u8], radix: u32, most: usize| rest.iter().take(most).take_while(|b| char::from(**b).is_digit(radix)).count();
        let number = |digits: &[u8], radix: u32| u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok();
        match c {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'a' => out.push(0x07),
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'v' => out.push(0x0b),
            b'\\' | b'\'' | b'"' | b'?' => out.push(c),
            b'0'..=b'7' => {
                let n = 1 + digits(rest, 8, 2);
                let start = raw.len() - rest.len() - 1;
                out.push(u8::try_from(number(raw.get(start..start + n)?, 8)?).ok()?);
                rest = rest.get(n - 1..)?;
            }
            b'x' | b'X' => {
                let n = digits(rest, 16, 2);
                out.push(u8::try_from(number(rest.get(..n)?, 16)?).ok()?);
                rest = rest.get(n..)?;
            }
            b'u' | b'U' => {
                let n = if c == b'u' { 4 } else { 8 };
                let c = char::from_u32(number(rest.get(..n)?, 16)?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = rest.get(n..)?;
            }
            _ => return None,
        }
    }
    Some(())
}
