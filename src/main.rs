//! The daemon and its command line.

use std::process::ExitCode;

use agent_runtime::{app, sandbox};

fn main() -> ExitCode {
    // Before anything else: the sandbox helper must have one thread and know nothing.
    if sandbox::helper_requested() {
        return sandbox::helper_main();
    }
    app::main()
}
