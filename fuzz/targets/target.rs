/// Makes a binary of a function over bytes: a libFuzzer target under `cargo fuzz`, else a program that runs it over files.
macro_rules! target {
    ($run:expr) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $run(bytes));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            for file in std::env::args_os().skip(1) {
                $run(&std::fs::read(&file)?);
                println!("{}: passed", std::path::Path::new(&file).display());
            }
            Ok(())
        }
    };
}
