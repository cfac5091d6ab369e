//! Libtorch's folder as an rpath, for this package's own tests.
//!
//! The crate itself does without: but in a build of the whole workspace cargo gives lm-core one set of features, `torch` among them,
//! and then these tests link it too. The variable is absent otherwise.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_LM_CORE_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
