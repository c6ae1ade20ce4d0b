//! The `sli` program.

fn main() {
    std::process::exit(sli::program::main(std::env::args_os(), 0));
}
