use crate::json::{object, Json};
use std::io::{self, Read, Write};

/// What stdin holds; `json` has what has no method here.
#[derive(Debug, Clone)]
pub struct Request {
    pub json: Json,
}

impl Request {
    /// Panics where stdin holds no EdgeRequest.
    pub fn read() -> Request {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).expect("stdin is UTF-8");
        Request { json: Json::parse(&text).expect("stdin is JSON") }
    }

    pub fn method(&self) -> &str {
        self.json.get("method").as_str().unwrap_or_default()
    }

    pub fn path(&self) -> &str {
        self.json.get("path").as_str().unwrap_or_default()
    }

    /// A path parameter of the route, empty where there is none.
    pub fn param(&self, name: &str) -> &str {
        self.json.get("params").get(name).as_str().unwrap_or_default()
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.json.get("query").get(name).as_str()
    }

    /// All values of a key of the query.
    pub fn query_all(&self, name: &str) -> Vec<&str> {
        match self.json.get("multi_value_query").get(name) {
            Json::List(values) => values.iter().filter_map(Json::as_str).collect(),
            _ => self.query(name).into_iter().collect(),
        }
    }

    /// The body as JSON, null if it is none.
    pub fn body_json(&self) -> Json {
        std::str::from_utf8(&self.body()).ok().and_then(Json::parse).unwrap_or(Json::Null)
    }

    /// By its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.json.get("headers").get(name).as_str()
    }

    /// Decoded; empty where it is no base64 though it says so.
    pub fn body(&self) -> Vec<u8> {
        let text = self.json.get("body").as_str().unwrap_or_default();
        if self.json.get("is_base64_encoded").as_bool() == Some(true) {
            return from_base64(text).unwrap_or_default();
        }
        text.as_bytes().to_vec()
    }
}

/// An answer; `send()` prints it.
#[derive(Debug, Clone)]
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    pub fn new(status: u16) -> Response {
        Response { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn json(status: u16, json: impl ToString) -> Response {
        Response::new(status).header("content-type", "application/json").body(json.to_string())
    }

    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Response {
        Response::new(status).header("content-type", "text/plain; charset=utf-8").body(body)
    }

    /// 303 leads to a GET, 307 and 308 keep the method.
    pub fn redirect(status: u16, location: &str) -> Response {
        Response::new(status).header("location", location)
    }

    /// application/problem+json, RFC 9457.
    pub fn problem(status: u16, title: &str, detail: &str) -> Response {
        let members = vec![("title", title.into()), ("status", i64::from(status).into()), ("detail", detail.into())];
        Response::new(status).header("content-type", "application/problem+json").body(object(members).to_string())
    }

    /// A cookie; `attributes` such as `Path=/; HttpOnly` may be empty.
    pub fn cookie(self, name: &str, value: &str, attributes: &str) -> Response {
        let separator = if attributes.is_empty() { "" } else { "; " };
        self.header("set-cookie", &format!("{}={}{}{}", name, value, separator, attributes))
    }

    /// A name that is repeated is sent repeatedly.
    pub fn header(mut self, name: &str, value: &str) -> Response {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Response {
        self.body = body.into();
        self
    }

    pub fn send(self) {
        let (body, is_base64) = match String::from_utf8(self.body) {
            Ok(text) => (text, false),
            Err(error) => (to_base64(error.as_bytes()), true),
        };
        let response = object(vec![
            ("status_code", i64::from(self.status).into()),
            ("headers", self.headers.as_slice().into()),
            ("body", body.as_str().into()),
            ("is_base64_encoded", Json::Bool(is_base64)),
        ]);
        io::stdout().write_all(response.to_string().as_bytes()).expect("stdout takes the response");
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity((bytes.len() + 2) / 3 * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | u32::from(*group.get(i).unwrap_or(&0)));
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= group.len() { digit as char } else { '=' });
        }
    }
    out
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0;
        for i in 0..4 {
            let digit = group.get(i).map_or(Some(0), |c| ALPHABET.iter().position(|each| each == c))?;
            bits = bits << 6 | digit as u32;
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}
