//! What dependencies may be, as data.

/// Licences we accept. All let a program that links them be given away under MIT or Apache-2.0.
pub(super) const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages that must not come in, and why. (`zstd-sys` and `bzip2-sys` are here to stay: `torch-sys` asks for them.)
pub(super) const BANNED: &[(&str, &str)] = &[
    (
        "aws-lc-sys",
        "compiles C with cmake; ring does the same job",
    ),
    ("onig_sys", "compiles C; tokenizers has `fancy-regex`"),
    ("openssl-sys", "needs the system's OpenSSL"),
    ("native-tls", "needs the system's OpenSSL"),
    ("tokio", "the workspace is synchronous; clients use threads"),
];

/// Packages of which one version is enough: two of them meet in one program as types that do not fit, or cost minutes.
/// (`ndarray` and `safetensors` are absent because tch brings older ones of its own.)
pub(super) const ONE_VERSION: &[&str] = &[
    "half",
    "minijinja",
    "serde",
    "serde_json",
    "tch",
    "tokenizers",
    "torch-sys",
];
