//! Hands libtorch's folder on: to this package's own tests as an rpath, to dependents as `DEP_LM_CORE_LIBTORCH_LIB`.
//!
//! The variable is absent without the feature `torch`, and with `doc-only`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::metadata=libtorch_lib={lib}");
        // `-ltorch` with `--no-as-needed`: nothing names a symbol of the CUDA half, so the linker would drop it.
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib},--no-as-needed,-ltorch");
    }
}
