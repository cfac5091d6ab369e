//! Weights are bit-equal to those of the `gguf` Python package (`golden/gguf-dequant`).

use std::collections::HashMap;
use std::fs;

use lm_core::weights::gguf::{DEQUANTIZABLE, GgmlType, Gguf, dequantize, dequantize_parallel};
use lm_testkit::{demo_model_or_skip, golden};
use rayon::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::builder::Builder;

const CASE: &str = "gguf-dequant";

fn golden_json(name: &str) -> serde_json::Map<String, Value> {
    let path = golden(CASE).unwrap().folder().join(name);
    match serde_json::from_slice(&fs::read(path).unwrap()).unwrap() {
        Value::Object(map) => map,
        other => panic!("{name} is no object: {other}"),
    }
}

#[test]
fn the_type_table_is_that_of_the_python_package() {
    let found: HashMap<_, _> = GgmlType::ALL
        .iter()
        .map(|ty| {
            (
                ty.name().to_owned(),
                [ty.id() as usize, ty.block_weights(), ty.block_bytes()],
            )
        })
        .collect();
    let expected: HashMap<String, [usize; 3]> = golden_json("types.json")
        .into_iter()
        .map(|(name, row)| (name, serde_json::from_value(row).unwrap()))
        .collect();
    assert_eq!(found, expected);
    for ty in GgmlType::ALL {
        assert_eq!(GgmlType::from_id(ty.id()), Some(*ty));
    }
}

#[test]
fn every_supported_type_is_bit_equal() {
    let case = golden(CASE).unwrap();
    let file = fs::read(case.folder().join("cases.gguf")).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    for ty in DEQUANTIZABLE {
        assert!(
            gguf.tensors().iter().any(|tensor| tensor.ty == *ty),
            "no case for {ty}"
        );
    }
    assert_eq!(gguf.tensors().len(), case.names().count());
    for tensor in gguf.tensors() {
        let expected = case.floats(&tensor.name).unwrap();
        assert_eq!(tensor.shape, expected.shape, "{}", tensor.name);
        let mut weights = vec![f32::NAN; tensor.weights()];
        tensor.dequantize(&file, &mut weights).unwrap();
        for (position, (found, expected)) in weights.iter().zip(&expected.values).enumerate() {
            assert_eq!(
                found.to_bits(),
                expected.to_bits(),
                "{}[{position}]: found {found}, expected {expected}",
                tensor.name
            );
        }
    }
}

#[test]
fn every_tensor_of_the_demo_model_is_bit_equal() {
    let path = demo_model_or_skip!();
    let file = fs::read(path).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let expected = golden_json("smollm2.json");
    assert_eq!(gguf.tensors().len(), 272);
    assert_eq!(gguf.tensors().len(), expected.len());
    gguf.tensors().par_iter().for_each(|tensor| {
        let mut weights = vec![0.0; tensor.weights()];
        tensor.dequantize(&file, &mut weights).unwrap();
        let mut hash = Sha256::new();
        for chunk in weights.chunks(1 << 12) {
            let bytes: Vec<u8> = chunk
                .iter()
                .flat_map(|weight| weight.to_le_bytes())
                .collect();
            hash.update(bytes);
        }
        let digest: String = hash.finalize()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let row = serde_json::json!([tensor.ty.name(), tensor.shape, digest]);
        assert_eq!(row, expected[&tensor.name], "{}", tensor.name);
    });
}

#[test]
fn parallel_and_serial_agree_beyond_one_chunk() {
    for ty in DEQUANTIZABLE {
        // Five chunks of 32,768 weights and a rest.
        let blocks = (5 * 32_768 + 256 * 7) / ty.block_weights();
        let bytes: Vec<u8> = (0..blocks * ty.block_bytes())
            .map(|byte| ((byte * 7919) >> 3) as u8)
            .collect();
        let mut serial = vec![0.0; blocks * ty.block_weights()];
        let mut parallel = vec![1.0; serial.len()];
        dequantize(*ty, &bytes, &mut serial).unwrap();
        dequantize_parallel(*ty, &bytes, &mut parallel).unwrap();
        let equal = serial
            .iter()
            .zip(&parallel)
            .all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(equal, "{ty}");
    }
}

#[test]
fn an_unsupported_type_names_the_tensor_and_the_supported_ones() {
    for ty in GgmlType::ALL
        .iter()
        .filter(|ty| !DEQUANTIZABLE.contains(ty))
    {
        let file = Builder::new()
            .tensor(
                b"blk.0.ffn_up.weight",
                &[ty.block_weights() as u64],
                ty.id(),
                0,
            )
            .data(&vec![0; ty.block_bytes()])
            .build();
        let gguf = Gguf::parse(&file).unwrap();
        let tensor = gguf.require("blk.0.ffn_up.weight").unwrap();
        let mut weights = vec![0.0; tensor.weights()];
        assert_eq!(
            tensor
                .dequantize(&file, &mut weights)
                .unwrap_err()
                .to_string(),
            format!(
                r#"tensor "blk.0.ffn_up.weight": {ty} cannot be dequantised, supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K"#
            )
        );
    }
}

#[test]
fn an_output_of_another_length_is_refused() {
    let block = [0; 18];
    for length in [0, 31, 33, 64] {
        let error = dequantize(GgmlType::Q4_0, &block, &mut vec![0.0; length]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("18 bytes of Q4_0 do not hold the {length} weights asked for")
        );
    }
    assert!(dequantize_parallel(GgmlType::Q4_0, &block[1..], &mut [0.0; 32]).is_err());
}
