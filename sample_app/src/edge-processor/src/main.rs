//! edge-processor: transforms or hashes what is posted to it, tells where it runs when asked.

mod base64;

use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::io::{self, Read};

const VERSION: &str = if cfg!(feature = "v3") { "3" } else { "2" };

#[derive(Deserialize)]
struct EdgeRequest {
    path: String,
    method: String,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
    #[serde(default)]
    context: EdgeContext,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EdgeContext {
    request_id: String,
    region: String,
    cold_start: bool,
}

#[derive(Serialize)]
struct EdgeResponse {
    status_code: u16,
    headers: BTreeMap<&'static str, String>,
    body: String,
}

impl EdgeRequest {
    fn body_bytes(&self) -> Vec<u8> {
        match &self.body {
            Some(text) if self.is_base64_encoded => base64::decode(text).unwrap_or_default(),
            Some(text) => text.as_bytes().to_vec(),
            None => Vec::new(),
        }
    }
}

fn main() -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    let response = handle(&serde_json::from_slice(&input)?);
    println!("{}", serde_json::to_string(&response)?);
    Ok(())
}

fn handle(request: &EdgeRequest) -> EdgeResponse {
    let (status_code, body) = match request.method.as_str() {
        "GET" | "HEAD" => (200, describe(request)),
        "POST" => (200, process(request)),
        _ => (405, json!({"error": "method not allowed"})),
    };
    let context = &request.context;
    let mut headers = BTreeMap::from([
        ("content-type", "application/json".into()),
        ("x-cold-start", context.cold_start.to_string()),
        ("x-function-version", VERSION.into()),
        ("x-region", context.region.clone()),
        ("x-request-id", context.request_id.clone()),
    ]);
    if status_code == 405 {
        headers.insert("allow", "GET, POST".into());
    }
    EdgeResponse { status_code, headers, body: body.to_string() }
}

fn describe(request: &EdgeRequest) -> Value {
    let context = &request.context;
    json!({"path": request.path, "region": context.region, "coldStart": context.cold_start})
}

fn process(request: &EdgeRequest) -> Value {
    let command: Value = serde_json::from_slice(&request.body_bytes()).unwrap_or_default();
    let action = command["action"].as_str().unwrap_or("unknown");
    let data = command["data"].as_str().unwrap_or_default();
    let result = match action {
        "transform" => data.to_uppercase(),
        "hash" => format!("{:x}", hash(data)),
        _ => data.to_string(),
    };
    json!({"action": action, "result": result, "region": request.context.region})
}

/// Bernstein's hash in 64 bits.
fn hash(data: &str) -> u64 {
    data.bytes().fold(5381, |h: u64, byte| h.wrapping_mul(33).wrapping_add(byte.into()))
}
