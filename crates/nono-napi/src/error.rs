//! Errors cross as one JSON object in the message; `packages/core/src/native-errors.ts` takes it
//! apart and throws the class that belongs to the code.

use std::io;

use napi::Status;
use nono::Error;
use serde_json::{Map, Value, json};

/// An error of the `nono` crate, on its way to JavaScript.
pub(crate) fn to_napi(error: &Error) -> napi::Error {
    let message = json!({
        "code": error.code(),
        "message": error.to_string(),
        "value": error.value(),
        "remedy": error.remedy(),
        "details": details(error),
    });
    napi::Error::new(Status::GenericFailure, message.to_string())
}

fn details(error: &Error) -> Value {
    let mut details = Map::new();
    match error {
        Error::SpawnFailed { stage, source, .. } => {
            details.insert("stage".into(), json!(stage));
            details.insert("errno".into(), errno(source));
        }
        Error::RestrictFailed { stage, source, partial } => {
            details.insert("stage".into(), json!(stage));
            details.insert("errno".into(), errno(source));
            details.insert("partial".into(), json!(partial));
        }
        Error::SandboxFailed { stage, source } => {
            details.insert("stage".into(), json!(stage));
            details.insert("errno".into(), errno(source));
        }
        Error::PathNotFound { source, .. } | Error::InvalidCwd { source, .. } => {
            details.insert("errno".into(), errno(source));
        }
        Error::UnsupportedPolicy { guarantees } => {
            details.insert("guarantees".into(), json!(guarantees));
        }
        _ => {}
    }
    Value::Object(details)
}

/// The number; JavaScript has the names (`os.constants.errno`).
fn errno(error: &io::Error) -> Value {
    json!(error.raw_os_error())
}
