//! Prints the tables' schema, as `docs/schema` has it: `cargo run -p archive --example schema`.

#![expect(clippy::unwrap_used, reason = "an example that fails may end")]
#![expect(clippy::print_stdout, reason = "the terminal is what this is for")]

fn main() {
    print!("{}", archive::schema::text().unwrap());
}
