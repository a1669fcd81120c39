#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| agent_runtime_fuzz::fuzzing::policy(data));
