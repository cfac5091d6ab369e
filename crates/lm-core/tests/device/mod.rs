//! Which devices a test's models are loaded on: the CPU, unless `cargo xtask gpu-check` says otherwise.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::path::Path;

use lm_core::{LoadOptions, TorchModel};

/// How tests load a model.
pub(crate) fn options() -> LoadOptions {
    let device = std::env::var("LM_CORE_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    LoadOptions::default().placement(device.parse().unwrap())
}

/// A model of `golden/`.
pub(crate) fn open(model: impl AsRef<Path>) -> TorchModel {
    TorchModel::open_with(model, options()).unwrap()
}
