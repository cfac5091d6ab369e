//! Logits and text, the same at every run.

/// SmolLM2's vocabulary.
const VOCAB: usize = 49_152;

/// A few likely tokens over a long tail, as a language model has them, `[vocab]`.
pub(crate) fn row() -> Vec<f32> {
    (0..VOCAB)
        .map(|id| {
            let noise = (id.wrapping_mul(2_654_435_761) % 10_007) as f32 / 10_007.0;
            // Products, not `powi`, whose rounding a compiler may choose.
            let sharp = noise * noise * noise * noise;
            12.0 * sharp * sharp * sharp * sharp - 2.0 * noise
        })
        .collect()
}

/// `bytes` bytes of words out of syllables, hardly one of them twice; another `seed` has other words.
pub(crate) fn prose(seed: usize, bytes: usize) -> String {
    const SYLLABLES: [&str; 16] = [
        "the", "in", "lo", "mar", "ket", "ri", "ver", "gar", "den", "sun", "ny", "ta", "ble", "ap",
        "ple", "thin",
    ];
    let mut state = seed;
    let mut text = String::new();
    while text.len() < bytes {
        for _ in 0..2 + state % 3 {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 31);
            text.push_str(SYLLABLES[state >> 16 & 15]);
        }
        text.push_str(if state.is_multiple_of(11) { ". " } else { " " });
    }
    text.truncate(bytes);
    text
}
