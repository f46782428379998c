use crate::call::{call, Operation, Result};
use crate::json::Json;

/// A request to send: `Fetch::get("https://api.example.com/").header("accept", "text/plain").send()`.
#[derive(Debug, Clone)]
pub struct Fetch {
    url: String,
    method: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    timeout_ms: Option<i64>,
    max_redirects: Option<i64>,
}

/// What came back. `url` is where the redirects led; header names are in lower case.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub url: String,
    pub body: Vec<u8>,
}

impl Fetch {
    pub fn new(method: &str, url: &str) -> Fetch {
        Fetch {
            url: url.to_string(),
            method: method.to_string(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: None,
            max_redirects: None,
        }
    }

    pub fn get(url: &str) -> Fetch {
        Fetch::new("GET", url)
    }

    pub fn header(mut self, name: &str, value: &str) -> Fetch {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Fetch {
        self.body = body.into();
        self
    }

    /// Without it there is what is left of the invocation.
    pub fn timeout_ms(mut self, timeout: i64) -> Fetch {
        self.timeout_ms = Some(timeout);
        self
    }

    /// 0 takes a redirect as the response; 5 is the default, and the most.
    pub fn max_redirects(mut self, redirects: i64) -> Fetch {
        self.max_redirects = Some(redirects);
        self
    }

    pub fn send(&self) -> Result<Fetched> {
        let fields = vec![
            ("url", self.url.as_str().into()),
            ("method", self.method.as_str().into()),
            ("headers", self.headers.as_slice().into()),
            ("timeoutMs", self.timeout_ms.into()),
            ("maxRedirects", self.max_redirects.into()),
        ];
        let reply = call(Operation::HttpFetch, fields, &self.body)?;
        Ok(Fetched {
            status: reply.fields.get("status").as_i64().unwrap_or_default() as u16,
            headers: pairs(reply.fields.get("headers")),
            url: reply.fields.get("url").text(),
            body: reply.body,
        })
    }
}

fn pairs(headers: &Json) -> Vec<(String, String)> {
    let each = headers.members().iter();
    each.flat_map(|(name, values)| values.items().iter().map(move |value| (name.clone(), value.text()))).collect()
}
