//! Writes a small archive with its journal into a folder, for checks by other programs:
//! `cargo run -p archive --example sample -- DIR`.

#![expect(clippy::unwrap_used, reason = "an example that fails may end")]

#[path = "../tests/common/mod.rs"]
mod common;

fn main() {
    let to = std::path::PathBuf::from(std::env::args_os().nth(1).unwrap());
    let mut node = common::Node::start(64 * 1024);
    node.session(170);
    node.seal();
    node.session(170);
    node.heartbeat();
    node.seal();
    for part in ["archive", "journal", "keys"] {
        let from = node.dir.path().join(part);
        common::plant(&to.join(part), &common::tree(&from));
    }
}
