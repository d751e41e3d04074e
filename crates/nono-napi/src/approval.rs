//! Asking JavaScript before an attempt is refused.

use std::sync::{Mutex, PoisonError};

use napi::bindgen_prelude::{FnArgs, Function};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;
use nono::{Approver, Lost, Request};

use crate::event::{self, NativeEvents};

/// An attempt that waits for an answer. Collected without one, it is refused.
#[napi]
pub struct NativeRequest(Mutex<Option<Request>>);

#[napi]
impl NativeRequest {
    /// Lets it pass, this time or for as long as the sandbox stands; or refuses it. Only the first
    /// answer counts.
    #[napi]
    pub fn answer(&self, allow: bool, remember: bool) {
        let request = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (request, allow, remember) {
            (Some(request), true, true) => request.allow_always(),
            (Some(request), true, false) => request.allow(),
            (Some(request), false, _) => request.deny(),
            (None, ..) => {}
        }
    }
}

/// What JavaScript is called with: one event.
pub(crate) type Asked = FnArgs<(NativeEvents, NativeRequest)>;

/// Whoever `callback` asks. It keeps no process alive.
pub(crate) fn approver(callback: &Function<'_, Asked, ()>) -> napi::Result<Approver> {
    let callback = callback.build_threadsafe_function().weak::<true>().build()?;
    Ok(Approver::new(move |event, request| {
        let event = event::events(&[event], Lost::default());
        let asked = (event, NativeRequest(Mutex::new(Some(request))));
        // Where there is no event loop any more, the request is dropped, which refuses it.
        callback.call(asked.into(), ThreadsafeFunctionCallMode::NonBlocking);
    }))
}
