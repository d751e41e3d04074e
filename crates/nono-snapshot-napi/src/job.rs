use napi::bindgen_prelude::{AsyncTask, ToNapiValue, TypeName};
use napi::{Env, Error, Result, Status, Task};

type Work<T> = Box<dyn FnOnce() -> nono_snapshot::Result<T> + Send>;

/// Work for libuv's thread pool.
pub struct Job<T>(Option<Work<T>>);

pub(crate) fn job<T: Send + 'static>(
    work: impl FnOnce() -> nono_snapshot::Result<T> + Send + 'static,
) -> AsyncTask<Job<T>>
where
    Job<T>: Task,
{
    AsyncTask::new(Job(Some(Box::new(work))))
}

impl<T: ToNapiValue + TypeName + Send + 'static> Task for Job<T> {
    type Output = T;
    type JsValue = T;

    fn compute(&mut self) -> Result<T> {
        let work = self.0.take().ok_or_else(|| Error::from_status(Status::GenericFailure))?;
        work().map_err(|error| to_js(&error))
    }

    fn resolve(&mut self, _: Env, output: T) -> Result<T> {
        Ok(output)
    }
}

/// Node-API errors carry one string: JSON here, which the TypeScript layer turns into its error class.
fn to_js(error: &nono_snapshot::Error) -> Error {
    let path = error.path().map(|path| path.to_string_lossy());
    let json =
        serde_json::json!({ "code": error.code(), "message": error.to_string(), "path": path });
    Error::new(Status::GenericFailure, json.to_string())
}
