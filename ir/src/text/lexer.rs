//! Tokens of the text form.

use super::parse::ParseError;

#[derive(Clone, Debug, PartialEq)]
pub enum Token<'a> {
    /// A word: op, element type, key, keyword.
    Word(&'a str),
    /// Digits and what belongs to a number; without sign.
    Number(&'a str),
    /// `%name`, `@name`, `?name`, with the name unquoted.
    Value(String),
    Global(String),
    Sym(&'a str),
    /// A quoted string, unescaped.
    Str(Vec<u8>),
    Arrow,
    Punct(char),
    End,
}

/// A position in the text, counted from 1; columns in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct At {
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Debug)]
pub struct Lexed<'a> {
    pub token: Token<'a>,
    pub at: At,
    /// The quoted string of a comment that follows on the same line.
    pub loc: Option<String>,
}

/// True for what a name without quotes is made of.
pub fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '$')
}

fn is_word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.')
}

struct Cursor<'a> {
    text: &'a str,
    pos: usize,
    line: u32,
    line_start: usize,
}

/// The tokens of `text`, with `End` as the last.
pub fn lex(text: &str) -> Result<Vec<Lexed<'_>>, ParseError> {
    let mut c = Cursor { text, pos: 0, line: 1, line_start: 0 };
    let mut out: Vec<Lexed> = Vec::new();
    loop {
        c.skip_while(|c| c.is_whitespace() && c != '\n');
        let at = c.at();
        let Some(next) = c.peek() else {
            out.push(Lexed { token: Token::End, at, loc: None });
            return Ok(out);
        };
        let token = match next {
            '\n' => {
                c.pos += 1;
                c.line += 1;
                c.line_start = c.pos;
                continue;
            }
            ';' => {
                let comment = c.take_while(|c| c != '\n');
                let loc = loc_of(comment);
                if let Some(last) = out.last_mut().filter(|l| l.at.line == at.line && loc.is_some()) {
                    last.loc = loc;
                }
                continue;
            }
            '%' => Token::Value(c.sigil_name()?),
            '@' => Token::Global(c.sigil_name()?),
            '?' => {
                c.pos += 1;
                match c.take_while(is_word_char) {
                    "" => return Err(c.error("a symbol needs a name")),
                    name => Token::Sym(name),
                }
            }
            '"' => Token::Str(c.string()?),
            '-' if c.text[c.pos..].starts_with("->") => {
                c.pos += 2;
                Token::Arrow
            }
            d if d.is_ascii_digit() => Token::Number(c.number()),
            w if is_word_char(w) => Token::Word(c.take_while(is_word_char)),
            p if "(){}[]<>,=:*+-".contains(p) => {
                c.pos += 1;
                Token::Punct(p)
            }
            other => return Err(c.error(format!("unexpected character {other:?}"))),
        };
        out.push(Lexed { token, at, loc: None });
    }
}

/// The string, if a comment (with its semicolon) is one quoted string.
fn loc_of(comment: &str) -> Option<String> {
    let body = comment[1..].trim();
    let mut c = Cursor { text: body, pos: 0, line: 1, line_start: 0 };
    let s = if body.starts_with('"') { c.string().ok()? } else { return None };
    if c.pos == body.len() { String::from_utf8(s).ok() } else { None }
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<char> {
        self.text[self.pos..].chars().next()
    }

    fn at(&self) -> At {
        At { line: self.line, column: (self.pos - self.line_start) as u32 + 1 }
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::new(self.at(), message)
    }

    fn skip_while(&mut self, f: impl Fn(char) -> bool) {
        self.take_while(f);
    }

    fn take_while(&mut self, f: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.pos..];
        let n = rest.find(|c| !f(c)).unwrap_or(rest.len());
        self.pos += n;
        &rest[..n]
    }

    fn sigil_name(&mut self) -> Result<String, ParseError> {
        self.pos += 1;
        if self.peek() == Some('"') {
            let s = self.string()?;
            return String::from_utf8(s).map_err(|_| self.error("a name is not UTF-8"));
        }
        match self.take_while(is_name_char) {
            "" => Err(self.error("a name is missing")),
            name => Ok(name.to_owned()),
        }
    }

    fn number(&mut self) -> &'a str {
        let start = self.pos;
        self.skip_while(is_word_char);
        let so_far = &self.text[start..self.pos];
        if so_far.ends_with(['e', 'E']) && !so_far.starts_with("0x") {
            let rest = self.text.as_bytes();
            if matches!(rest.get(self.pos), Some(b'+' | b'-')) && rest.get(self.pos + 1).is_some_and(u8::is_ascii_digit) {
                self.pos += 1;
                self.skip_while(|c| c.is_ascii_digit());
            }
        }
        &self.text[start..self.pos]
    }

    /// A string from its opening to its closing quote, on one line.
    fn string(&mut self) -> Result<Vec<u8>, ParseError> {
        self.pos += 1;
        let bytes = self.text.as_bytes();
        let mut out = Vec::new();
        loop {
            let b = *bytes.get(self.pos).filter(|&&b| b != b'\n').ok_or_else(|| self.error("a string is not closed"))?;
            self.pos += 1;
            match b {
                b'"' => return Ok(out),
                b'\\' => {
                    let escape = bytes.get(self.pos).copied().unwrap_or(0);
                    let plain = match escape {
                        b'"' | b'\\' => escape,
                        b'n' => b'\n',
                        b't' => b'\t',
                        b'r' => b'\r',
                        b'x' => {
                            let hex = self.text.get(self.pos + 1..self.pos + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
                            self.pos += 2;
                            match hex {
                                Some(b) => b,
                                None => {
                                    self.pos -= 3;
                                    return Err(self.error("\\x needs two hexadecimal digits"));
                                }
                            }
                        }
                        _ => {
                            self.pos -= 1;
                            return Err(self.error("unknown escape in a string"));
                        }
                    };
                    self.pos += 1;
                    out.push(plain);
                }
                b => out.push(b),
            }
        }
    }
}
