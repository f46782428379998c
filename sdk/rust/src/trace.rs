//! Spans, attributes and events of the function's own. Attributes are texts, numbers and bools.

use crate::call::{call, Operation, Result};
use crate::json::{object, Json};

/// A span that was started. Where nobody records the trace, what is done with it goes well, and does nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Span {
    /// 0 where nobody records the trace.
    pub number: i64,
}

pub fn start(name: &str, attributes: Vec<(&str, Json)>) -> Result<Span> {
    let fields = vec![("name", name.into()), ("attributes", object(attributes))];
    let number = call(Operation::TraceStart, fields, &[])?.fields.get("span").as_i64().unwrap_or_default();
    Ok(Span { number })
}

/// On the span that was started last, of those that are open; else on the function's own.
pub fn set(attributes: Vec<(&str, Json)>) -> Result<()> {
    record(Operation::TraceSet, vec![("attributes", object(attributes))])
}

/// The same.
pub fn event(name: &str, attributes: Vec<(&str, Json)>) -> Result<()> {
    record(Operation::TraceEvent, vec![("name", name.into()), ("attributes", object(attributes))])
}

impl Span {
    pub fn set(&self, attributes: Vec<(&str, Json)>) -> Result<()> {
        record(Operation::TraceSet, vec![("span", self.number.into()), ("attributes", object(attributes))])
    }

    pub fn event(&self, name: &str, attributes: Vec<(&str, Json)>) -> Result<()> {
        let fields = vec![("span", self.number.into()), ("name", name.into()), ("attributes", object(attributes))];
        record(Operation::TraceEvent, fields)
    }

    pub fn end(self) -> Result<()> {
        record(Operation::TraceEnd, vec![("span", self.number.into())])
    }

    /// Ends it, and says what went wrong.
    pub fn fail(self, error: &str) -> Result<()> {
        record(Operation::TraceEnd, vec![("span", self.number.into()), ("error", error.into())])
    }
}

fn record(operation: Operation, fields: Vec<(&str, Json)>) -> Result<()> {
    call(operation, fields, &[]).map(|_| ())
}
