//! A value that another thread will set, as any number of JavaScript promises.

use std::sync::{Arc, Mutex, PoisonError};

use napi::bindgen_prelude::{Object, ToNapiValue};
use napi::{Env, JsDeferred, Result};

type Resolver<T> = Box<dyn FnOnce(Env) -> Result<T>>;

enum State<T: ToNapiValue + 'static> {
    Waiting(Vec<JsDeferred<T, Resolver<T>>>),
    Set(std::result::Result<T, String>),
}

/// Set once; every promise made of it, before or after, then settles.
pub(crate) struct Eventual<T: ToNapiValue + Clone + Send + 'static>(Arc<Mutex<State<T>>>);

impl<T: ToNapiValue + Clone + Send + 'static> Clone for Eventual<T> {
    fn clone(&self) -> Self {
        Eventual(self.0.clone())
    }
}

impl<T: ToNapiValue + Clone + Send + 'static> Eventual<T> {
    pub(crate) fn new() -> Self {
        Eventual(Arc::new(Mutex::new(State::Waiting(Vec::new()))))
    }

    /// Sets the value, or the reason (an error's message) that there will be none.
    pub(crate) fn set(&self, value: std::result::Result<T, String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, State::Set(value.clone()));
        drop(state);
        if let State::Waiting(promises) = before {
            for promise in promises {
                settle(promise, value.clone());
            }
        }
    }

    /// A promise for the value.
    pub(crate) fn promise<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let (deferred, promise) = env.create_deferred()?;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Waiting(promises) => promises.push(deferred),
            State::Set(value) => settle(deferred, value.clone()),
        }
        Ok(promise)
    }
}

fn settle<T: ToNapiValue + Send + 'static>(
    promise: JsDeferred<T, Resolver<T>>,
    value: std::result::Result<T, String>,
) {
    match value {
        Ok(value) => promise.resolve(Box::new(move |_| Ok(value))),
        Err(message) => promise.reject(napi::Error::from_reason(message)),
    }
}
