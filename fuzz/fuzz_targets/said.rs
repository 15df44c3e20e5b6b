//! See `makima_runner::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| makima_runner::fuzz::run("said", data));
