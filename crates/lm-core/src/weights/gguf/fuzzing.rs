//! What must hold for every input, as one function for fuzzers and property tests.

use super::{DEQUANTIZABLE, Gguf, dequantize};

/// Largest tensor that is dequantised here; more would only be slow.
const MOST_WEIGHTS: usize = 1 << 16;

/// Parses arbitrary bytes and checks what the index promises.
///
/// # Panics
/// If the reader is wrong: an accepted file whose tensors do not lie in it, share bytes, or cannot be found by name.
pub fn check(file: &[u8]) {
    let Ok(gguf) = Gguf::parse(file) else { return };
    let mut end = gguf.data_offset();
    for tensor in gguf.tensors() {
        assert!(tensor.range.start >= end && tensor.range.end > tensor.range.start);
        assert!(tensor.range.start.is_multiple_of(gguf.alignment()));
        assert!(tensor.range.end <= file.len());
        end = tensor.range.end;
        assert_eq!(tensor.weights(), tensor.shape.iter().product::<usize>());
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));

        let bytes = &file[tensor.range.clone()];
        assert_eq!(tensor.bytes(file).as_deref(), Ok(bytes));
        if tensor.weights() <= MOST_WEIGHTS {
            let mut weights = vec![0.0; tensor.weights()];
            let result = dequantize(tensor.ty, bytes, &mut weights);
            assert_eq!(result.is_ok(), DEQUANTIZABLE.contains(&tensor.ty));
        }
    }
    for (key, value) in gguf.metadata().iter() {
        assert!(gguf.metadata().contains_key(key), "{key:?}: {value}");
    }
}
