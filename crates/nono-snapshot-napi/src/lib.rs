//! Node-API binding of the `nono-snapshot` crate: converts arguments and results, decides nothing.
//! Every call runs on libuv's thread pool and names its checkpoint by store and id.
#![allow(missing_docs, reason = "exported to JavaScript, where @nono/rollback documents it")]

mod convert;
mod job;

use std::path::PathBuf;

use napi::bindgen_prelude::{AsyncTask, Buffer};
use napi_derive::napi;
use nono_snapshot::{Checkpoint, Mounter, Options, Store};

use convert::{Change, Diff, Holder, Info, Recovered, Summary, bytes, path, paths};
use job::{Job, job};

fn open(store: &str, id: &str) -> nono_snapshot::Result<Checkpoint> {
    Checkpoint::open(&Store::open(store.as_ref())?, id)
}

#[napi(object)]
pub struct CreateOptions {
    pub strategy: Option<String>,
    pub exclude: Vec<String>,
    /// `privileged`, `supervised` or `unprivileged`; absent: nobody mounts.
    pub mounter: Option<String>,
}

#[napi(ts_return_type = "Promise<Info>")]
pub fn create(store: String, dirs: Vec<Buffer>, options: CreateOptions) -> AsyncTask<Job<Info>> {
    let dirs = paths(dirs);
    job(move || {
        let mounter = match options.mounter.as_deref() {
            Some("privileged") => Some(Mounter::Privileged),
            Some("supervised") => Some(Mounter::Supervised),
            Some(_) => Some(Mounter::Unprivileged),
            None => None,
        };
        let options = Options { strategy: options.strategy, exclude: options.exclude, mounter };
        let checkpoint = Checkpoint::create(&Store::open(store.as_ref())?, &dirs, &options)?;
        Ok(Info::from(&checkpoint))
    })
}

#[napi(ts_return_type = "Promise<Info>")]
pub fn info(store: String, id: String) -> AsyncTask<Job<Info>> {
    job(move || Ok(Info::from(&open(&store, &id)?)))
}

#[napi(ts_return_type = "Promise<Array<Change>>")]
pub fn changes(store: String, id: String) -> AsyncTask<Job<Vec<Change>>> {
    job(move || Ok(open(&store, &id)?.changes()?.into_iter().map(Change::from).collect()))
}

#[napi(ts_return_type = "Promise<Array<Holder>>")]
pub fn rollback(
    store: String,
    id: String,
    selected: Option<Vec<Buffer>>,
    refuse_held: bool,
) -> AsyncTask<Job<Vec<Holder>>> {
    let selected = selected.map(paths);
    job(move || {
        let report = open(&store, &id)?.rollback(selected.as_deref(), refuse_held)?;
        Ok(report.holders.into_iter().map(Holder::from).collect())
    })
}

#[napi(ts_return_type = "Promise<void>")]
pub fn commit(store: String, id: String, selected: Option<Vec<Buffer>>) -> AsyncTask<Job<()>> {
    let selected = selected.map(paths);
    job(move || open(&store, &id)?.commit(selected.as_deref()))
}

#[napi(ts_return_type = "Promise<void>")]
pub fn apply(store: String, id: String) -> AsyncTask<Job<()>> {
    job(move || open(&store, &id)?.apply())
}

#[napi(ts_return_type = "Promise<void>")]
pub fn withdraw(store: String, id: String) -> AsyncTask<Job<()>> {
    job(move || open(&store, &id)?.withdraw())
}

#[napi(ts_return_type = "Promise<void>")]
pub fn flush(store: String, id: String) -> AsyncTask<Job<()>> {
    job(move || open(&store, &id)?.flush())
}

#[napi(ts_return_type = "Promise<void>")]
pub fn purge(store: String, id: String) -> AsyncTask<Job<()>> {
    job(move || open(&store, &id)?.purge())
}

#[napi(ts_return_type = "Promise<void>")]
pub fn dispose(store: String, id: String) -> AsyncTask<Job<()>> {
    job(move || match open(&store, &id) {
        Err(nono_snapshot::Error::UnknownCheckpoint { .. }) => Ok(()),
        checkpoint => checkpoint?.dispose(),
    })
}

#[napi(ts_return_type = "Promise<Array<Summary>>")]
pub fn list(store: String) -> AsyncTask<Job<Vec<Summary>>> {
    job(move || Ok(Store::open(store.as_ref())?.list()?.into_iter().map(Summary::from).collect()))
}

#[napi(ts_return_type = "Promise<Recovered>")]
pub fn recover(store: String) -> AsyncTask<Job<Recovered>> {
    job(move || Ok(Store::open(store.as_ref())?.recover()?.into()))
}

#[napi(ts_return_type = "Promise<Diff>")]
pub fn diff(
    store: String,
    id: String,
    before: Option<Buffer>,
    after: Option<Buffer>,
) -> AsyncTask<Job<Diff>> {
    let (before, after): (Option<PathBuf>, Option<PathBuf>) = (before.map(path), after.map(path));
    job(move || Ok(open(&store, &id)?.diff(before.as_deref(), after.as_deref())?.into()))
}

#[napi(ts_return_type = "Promise<Buffer>")]
pub fn default_store() -> AsyncTask<Job<Buffer>> {
    job(|| Ok(bytes(Store::default_path()?)))
}
