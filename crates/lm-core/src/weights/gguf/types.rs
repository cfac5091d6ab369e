//! ggml's tensor types: their numbers, names and block layouts.

use std::fmt;

/// Declares [`GgmlType`] from one table, so that number, name and layout cannot drift apart.
macro_rules! ggml_types {
    ($($variant:ident = $id:literal, $name:literal, $weights:literal weights in $bytes:literal bytes;)+) => {
        /// How a tensor's weights are stored.
        ///
        /// Quantised types store a row in blocks of a fixed number of weights. Numbers, names and block sizes are
        /// those of ggml (`ggml_type`), as listed by the `gguf` Python package 0.19. Numbers that ggml has retired
        /// (4, 5, 31–33, 36–38) are unknown here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum GgmlType {
            $(#[doc = concat!("ggml's `", $name, "`: ", $weights, " weight(s) in ", $bytes, " byte(s).")] $variant,)+
        }

        impl GgmlType {
            /// Every type, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The type with ggml's number `id`, or `None` if ggml has no such type.
            #[must_use]
            pub const fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// ggml's number of the type.
            #[must_use]
            pub const fn id(self) -> u32 {
                match self {
                    $(Self::$variant => $id,)+
                }
            }

            /// ggml's name of the type, such as `Q4_1`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Weights in one block; 1 for the types that are not quantised.
            #[must_use]
            pub const fn block_weights(self) -> usize {
                match self {
                    $(Self::$variant => $weights,)+
                }
            }

            /// Bytes of one block.
            #[must_use]
            pub const fn block_bytes(self) -> usize {
                match self {
                    $(Self::$variant => $bytes,)+
                }
            }
        }
    };
}

ggml_types! {
    F32 = 0, "F32", 1 weights in 4 bytes;
    F16 = 1, "F16", 1 weights in 2 bytes;
    Q4_0 = 2, "Q4_0", 32 weights in 18 bytes;
    Q4_1 = 3, "Q4_1", 32 weights in 20 bytes;
    Q5_0 = 6, "Q5_0", 32 weights in 22 bytes;
    Q5_1 = 7, "Q5_1", 32 weights in 24 bytes;
    Q8_0 = 8, "Q8_0", 32 weights in 34 bytes;
    Q8_1 = 9, "Q8_1", 32 weights in 40 bytes;
    Q2K = 10, "Q2_K", 256 weights in 84 bytes;
    Q3K = 11, "Q3_K", 256 weights in 110 bytes;
    Q4K = 12, "Q4_K", 256 weights in 144 bytes;
    Q5K = 13, "Q5_K", 256 weights in 176 bytes;
    Q6K = 14, "Q6_K", 256 weights in 210 bytes;
    Q8K = 15, "Q8_K", 256 weights in 292 bytes;
    Iq2Xxs = 16, "IQ2_XXS", 256 weights in 66 bytes;
    Iq2Xs = 17, "IQ2_XS", 256 weights in 74 bytes;
    Iq3Xxs = 18, "IQ3_XXS", 256 weights in 98 bytes;
    Iq1S = 19, "IQ1_S", 256 weights in 50 bytes;
    Iq4Nl = 20, "IQ4_NL", 32 weights in 18 bytes;
    Iq3S = 21, "IQ3_S", 256 weights in 110 bytes;
    Iq2S = 22, "IQ2_S", 256 weights in 82 bytes;
    Iq4Xs = 23, "IQ4_XS", 256 weights in 136 bytes;
    I8 = 24, "I8", 1 weights in 1 bytes;
    I16 = 25, "I16", 1 weights in 2 bytes;
    I32 = 26, "I32", 1 weights in 4 bytes;
    I64 = 27, "I64", 1 weights in 8 bytes;
    F64 = 28, "F64", 1 weights in 8 bytes;
    Iq1M = 29, "IQ1_M", 256 weights in 56 bytes;
    Bf16 = 30, "BF16", 1 weights in 2 bytes;
    Tq1_0 = 34, "TQ1_0", 256 weights in 54 bytes;
    Tq2_0 = 35, "TQ2_0", 256 weights in 66 bytes;
    Mxfp4 = 39, "MXFP4", 32 weights in 17 bytes;
    Nvfp4 = 40, "NVFP4", 64 weights in 36 bytes;
    Q1_0 = 41, "Q1_0", 128 weights in 18 bytes;
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
