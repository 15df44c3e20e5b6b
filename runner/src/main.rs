//! makima.
fn main() {}
