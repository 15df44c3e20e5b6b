//! See `makima_tests::guided`.
#![no_main]

// What does not hold is told with a short run in which it does not, so panics are caught; libFuzzer's own hook ends the
// process at the first.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |data: &[u8]| {
    if let Err(why) = makima_tests::guided::run(data) {
        eprintln!("{why}");
        std::process::abort();
    }
});
