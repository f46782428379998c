//! Read an [`EdgeRequest`](Request), call the host, answer.
//!
//! ```no_run
//! fn main() {
//!     let request = edge::Request::read();
//!     let response = match edge::kv::get("cache", request.param("key")) {
//!         Ok(Some(entry)) => edge::Response::new(200).body(entry.value),
//!         Ok(None) => edge::Response::new(404),
//!         Err(error) => edge::Response::new(502).body(error.to_string()),
//!     };
//!     response.send();
//! }
//! ```
//!
//! It has no dependencies; [`json`] is as much JSON as it needs itself.

mod call;
mod fetch;
mod form;
pub mod json;
pub mod kv;
pub mod log;
pub mod queue;
mod request;
pub mod trace;

pub use call::{call, Error, Operation, Reply, Result};
pub use fetch::{Fetch, Fetched};
pub use form::Part;
pub use request::{Request, Response};
