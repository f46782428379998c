//! The imports, and the frames that cross them.

use crate::json::{object, Json};
use std::fmt;

#[link(wasm_import_module = "edge")]
extern "C" {
    #[link_name = "call"]
    fn host_call(operation: i32, payload: *const u8, length: usize) -> i32;
    #[link_name = "take"]
    fn host_take(pointer: *mut u8) -> i32;
}

/// What the host, or a server it asked, says when a call fails. `code` is stable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub code: String,
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Error {}

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    HttpFetch = 1,
    KvGet = 2,
    KvSet = 3,
    KvDelete = 4,
    KvList = 5,
    KvIncrement = 6,
    KvCas = 7,
    QueuePublish = 8,
    TraceStart = 9,
    TraceEnd = 10,
    TraceSet = 11,
    TraceEvent = 12,
}

/// The fields and the body of a result.
pub struct Reply {
    pub fields: Json,
    pub body: Vec<u8>,
}

/// The call under all the others.
pub fn call(operation: Operation, fields: Vec<(&str, Json)>, body: &[u8]) -> Result<Reply> {
    let header = object(fields).to_string();
    let mut payload = Vec::with_capacity(4 + header.len() + body.len());
    payload.extend_from_slice(&(header.len() as u32).to_le_bytes());
    payload.extend_from_slice(header.as_bytes());
    payload.extend_from_slice(body);

    // SAFETY: the host reads `length` bytes, and keeps no pointer.
    let size = unsafe { host_call(operation as i32, payload.as_ptr(), payload.len()) };
    let size = usize::try_from(size).map_err(|_| failed("edge.call", -size))?;
    let mut frame = vec![0; size];
    // SAFETY: the result has `size` bytes.
    match unsafe { host_take(frame.as_mut_ptr()) } {
        0 => reply(frame).unwrap_or_else(|| Err(failed("edge.take", 0))),
        errno => Err(failed("edge.take", errno)),
    }
}

fn reply(mut frame: Vec<u8>) -> Option<Result<Reply>> {
    let length = u32::from_le_bytes(frame.get(..4)?.try_into().ok()?) as usize;
    let fields = Json::parse(std::str::from_utf8(frame.get(4..4 + length)?).ok()?)?;
    let body = frame.split_off(4 + length);
    if fields.get("ok").as_bool() == Some(true) {
        return Some(Ok(Reply { fields, body }));
    }
    let error = fields.get("error");
    Some(Err(Error { code: error.get("code").text(), message: error.get("message").text() }))
}

fn failed(import: &str, errno: i32) -> Error {
    Error { code: "call-failed".into(), message: format!("{}: errno {}", import, errno) }
}
