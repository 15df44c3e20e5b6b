//! makima.
fn main() {
    if let Some(code) = makima_runner::launcher::intercept(std::env::args_os()) {
        std::process::exit(code);
    }
}
