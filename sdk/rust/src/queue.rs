//! Queues.

use crate::call::{call, Operation, Result};

/// The id of the message.
pub fn publish(queue: &str, body: &[u8], attributes: &[(String, String)]) -> Result<String> {
    let fields = vec![("queue", queue.into()), ("attributes", attributes.into())];
    Ok(call(Operation::QueuePublish, fields, body)?.fields.get("id").text())
}
