#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| s3veil_fuzz::aws_chunked::run(data));
