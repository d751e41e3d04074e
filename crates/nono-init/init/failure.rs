//! How building a sandbox fails.

/// Where and why building failed.
pub struct Failure {
    pub stage: u32,
    pub errno: i32,
}

impl Failure {
    /// For `map_err`: an errno that happened at `stage`.
    pub fn at(stage: u32) -> impl Fn(i32) -> Self {
        move |errno| Failure { stage, errno }
    }
}
