//! Key/value. A time to live is in milliseconds, `None` for ever.

use crate::call::{call, Operation, Result};
use crate::json::Json;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    /// Stands for the value in [`compare_and_set`].
    pub etag: String,
}

/// Some of the keys; `cursor` for the next ones, `None` behind the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub keys: Vec<String>,
    pub cursor: Option<String>,
}

pub fn get(namespace: &str, key: &str) -> Result<Option<Entry>> {
    let reply = call(Operation::KvGet, fields(namespace, key), &[])?;
    let found = reply.fields.get("found").as_bool() == Some(true);
    Ok(found.then(|| Entry { value: reply.body, etag: reply.fields.get("etag").text() }))
}

/// The etag of the value.
pub fn set(namespace: &str, key: &str, value: &[u8], ttl_ms: Option<i64>) -> Result<String> {
    let mut fields = fields(namespace, key);
    fields.push(("ttlMs", ttl_ms.into()));
    Ok(call(Operation::KvSet, fields, value)?.fields.get("etag").text())
}

/// Whether it was there.
pub fn delete(namespace: &str, key: &str) -> Result<bool> {
    let reply = call(Operation::KvDelete, fields(namespace, key), &[])?;
    Ok(reply.fields.get("deleted").as_bool() == Some(true))
}

/// At most `limit` keys (1 to 1000) with the prefix, behind `cursor`.
pub fn list(namespace: &str, prefix: &str, cursor: Option<&str>, limit: Option<i64>) -> Result<Page> {
    let fields = vec![
        ("namespace", namespace.into()),
        ("prefix", prefix.into()),
        ("cursor", cursor.into()),
        ("limit", limit.into()),
    ];
    let reply = call(Operation::KvList, fields, &[])?.fields;
    let keys = reply.get("keys").items().iter().map(Json::text).collect();
    Ok(Page { keys, cursor: reply.get("cursor").as_str().map(str::to_string) })
}

/// The sum.
pub fn increment(namespace: &str, key: &str, by: i64) -> Result<i64> {
    let mut fields = fields(namespace, key);
    fields.push(("by", by.into()));
    Ok(call(Operation::KvIncrement, fields, &[])?.fields.get("value").as_i64().unwrap_or_default())
}

/// Sets where the value still has the etag, or where there is no value for `None`. The new etag, `None` where not.
pub fn compare_and_set(
    namespace: &str,
    key: &str,
    etag: Option<&str>,
    value: &[u8],
    ttl_ms: Option<i64>,
) -> Result<Option<String>> {
    let mut fields = fields(namespace, key);
    fields.push(("etag", etag.into()));
    fields.push(("ttlMs", ttl_ms.into()));
    Ok(call(Operation::KvCas, fields, value)?.fields.get("etag").as_str().map(str::to_string))
}

fn fields<'a>(namespace: &str, key: &str) -> Vec<(&'a str, Json)> {
    vec![("namespace", namespace.into()), ("key", key.into())]
}
