//! Lets the linker build a Node-API module.

fn main() {
    napi_build::setup();
}
