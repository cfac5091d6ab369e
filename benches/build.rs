//! Lets the programs of this package find libtorch: `docs/outside-crate.md`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_LM_CORE_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib},--no-as-needed,-ltorch");
    }
}
