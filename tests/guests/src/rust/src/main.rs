//! Capabilities by JSON: {"op": "kv.get", "namespace": ..., "key": ...}.

use edge::json::Json;
use edge::{kv, queue, trace, Fetch, Request, Response, Result};
use serde_json::{json, Map, Value};

fn main() {
    let command: Value = serde_json::from_slice(&Request::read().body()).expect("a command");
    let answer = run(&command).unwrap_or_else(|error| json!({"ok": false, "code": error.code, "message": error.message}));
    Response::json(200, answer).send();
}

fn run(command: &Value) -> Result<Value> {
    let text = |name: &str| command[name].as_str().unwrap_or_default();
    let (namespace, key) = (text("namespace"), text("key"));
    let (value, ttl) = (text("value").as_bytes(), command["ttlMs"].as_i64());
    Ok(match text("op") {
        "http.fetch" => fetch(command)?,
        "kv.get" => match kv::get(namespace, key)? {
            Some(entry) => json!({"ok": true, "found": true, "value": lossy(&entry.value), "etag": entry.etag}),
            None => json!({"ok": true, "found": false}),
        },
        "kv.set" => json!({"ok": true, "done": true, "etag": kv::set(namespace, key, value, ttl)?}),
        "kv.delete" => json!({"ok": true, "deleted": kv::delete(namespace, key)?}),
        "kv.list" => {
            let page = kv::list(namespace, text("prefix"), command["cursor"].as_str(), command["limit"].as_i64())?;
            json!({"ok": true, "keys": page.keys, "cursor": page.cursor})
        }
        "kv.increment" => {
            json!({"ok": true, "value": kv::increment(namespace, key, command["by"].as_i64().unwrap_or(1))?})
        }
        "kv.cas" => {
            let etag = kv::compare_and_set(namespace, key, command["etag"].as_str(), value, ttl)?;
            json!({"ok": true, "swapped": etag.is_some(), "etag": etag})
        }
        "queue.publish" => {
            let id = queue::publish(text("queue"), text("body").as_bytes(), &pairs(&command["attributes"]))?;
            json!({"ok": true, "id": id})
        }
        "trace" => scenario()?,
        other => panic!("unknown op {}", other),
    })
}

/// A span in a span, with an attribute and an event each, and what is refused.
fn scenario() -> Result<Value> {
    let outer = trace::start("outer", vec![("key", "v".into())])?;
    let inner = trace::start("inner", vec![])?;
    let numbers = (outer.number, inner.number);
    trace::event("tick", vec![("n", 1.into())])?;
    outer.set(vec![("done", Json::Bool(true))])?;
    inner.fail("it broke")?;
    outer.end()?;
    let again = trace::Span { number: numbers.0 }.end().err().map(|error| error.code);
    Ok(json!({"ok": true, "outer": numbers.0, "inner": numbers.1, "again": again.unwrap_or_default()}))
}

fn fetch(command: &Value) -> Result<Value> {
    let mut fetch = Fetch::new(command["method"].as_str().unwrap_or("GET"), command["url"].as_str().unwrap_or_default())
        .body(command["body"].as_str().unwrap_or_default());
    for (name, value) in pairs(&command["headers"]) {
        fetch = fetch.header(&name, &value);
    }
    if let Some(timeout) = command["timeoutMs"].as_i64() {
        fetch = fetch.timeout_ms(timeout);
    }
    if command["manualRedirects"] == true {
        fetch = fetch.max_redirects(0);
    }
    let got = fetch.send()?;
    let mut headers = Map::new();
    for (name, value) in got.headers {
        let values = headers.entry(name).or_insert_with(|| json!([]));
        values.as_array_mut().expect("a list").push(value.into());
    }
    Ok(json!({"ok": true, "status": got.status, "headers": headers, "url": got.url, "body": lossy(&got.body)}))
}

fn pairs(object: &Value) -> Vec<(String, String)> {
    let members = object.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_string())).collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
