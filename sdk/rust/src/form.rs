//! What a request brings beside its body: cookies, forms, and the parts of multipart.

use crate::request::Request;

/// A part of multipart/form-data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    pub name: String,
    pub filename: Option<String>,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

impl Request {
    /// A cookie, without the quotes that may be around its value.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self.header("cookie")?.split(';').filter_map(|each| each.split_once('='));
        let value = pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name)?.1;
        Some(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
    }

    /// The fields of a form in the body (application/x-www-form-urlencoded), in its order.
    pub fn form(&self) -> Vec<(String, String)> {
        let body = String::from_utf8_lossy(&self.body()).into_owned();
        let pairs = body.split('&').filter(|each| !each.is_empty());
        pairs.map(|each| each.split_once('=').unwrap_or((each, ""))).map(|(k, v)| (unquote(k), unquote(v))).collect()
    }

    /// The last value of a field of such a form.
    pub fn form_field(&self, name: &str) -> Option<String> {
        self.form().into_iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The parts of a multipart body; `None` if the body is not multipart, or is malformed.
    pub fn multipart(&self) -> Option<Vec<Part>> {
        let boundary = parameter(self.header("content-type")?, "boundary").filter(|each| !each.is_empty())?;
        let line = [b"\r\n--", boundary.as_bytes()].concat();
        let text = [b"\r\n", self.body().as_slice()].concat();
        let mut parts = Vec::new();
        let mut at = search(&text, &line)? + line.len();
        while !text[at..].starts_with(b"--") {
            let rest = text.get(at + 2..)?;
            let length = search(rest, &line)?;
            parts.push(part(&rest[..length])?);
            at += 2 + length + line.len();
        }
        Some(parts)
    }
}

fn part(text: &[u8]) -> Option<Part> {
    let blank = search(text, b"\r\n\r\n")?;
    let mut part = Part { body: text[blank + 4..].to_vec(), ..Part::default() };
    for line in std::str::from_utf8(&text[..blank]).ok()?.split("\r\n") {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-disposition") {
            part.name = parameter(value, "name").unwrap_or_default();
            part.filename = parameter(value, "filename");
        } else if name.eq_ignore_ascii_case("content-type") {
            part.content_type = Some(value.trim().to_string());
        }
    }
    Some(part)
}

/// A parameter of a header such as `form-data; name="a"; filename="b.txt"`.
fn parameter(header: &str, name: &str) -> Option<String> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (key, value) = rest.split_once('=')?;
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').map(|(value, behind)| (value, behind.trim_start_matches(';')))?,
            None => value.split_once(';').unwrap_or((value, "")),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim().to_string());
        }
        rest = behind;
    }
}

fn search(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|each| each == part)
}

/// A name or value of a form: `+` is a space, `%XX` is a byte.
fn unquote(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes().enumerate();
    while let Some((at, c)) = bytes.next() {
        let escaped = text.get(at + 1..at + 3).filter(|hex| c == b'%' && hex.bytes().all(|c| c.is_ascii_hexdigit()));
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                bytes.nth(1);
            }
            None => out.push(if c == b'+' { b' ' } else { c }),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
