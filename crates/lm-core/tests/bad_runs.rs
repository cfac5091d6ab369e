//! Wrong arguments to a model that runs: prompts, rows, heads, sites, devices, options, and weights that are no numbers.
//! Each is refused with the text asserted here, and what refused it is as it was.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use std::ops::ControlFlow;

use half::bf16;
use lm_core::{
    AblationKind, Capture, ChatModel, Conversation, Device, Dialogue, Dtype, FinishReason,
    GenerateOptions, Generation, Head, HeadAblation, LanguageModel, LoadOptions, MAX_ROWS,
    OpenModel, PlainSession, Positions, Request, Run, Sampling, Session, Site, TorchModel,
    generate,
};
use lm_testkit::{TinyLlama, TinyModel, golden, overwrite};
use ndarray::Array2;

/// Tokens a row of these models may hold.
const CONTEXT: usize = 24;

fn open(model: &TinyModel) -> TorchModel {
    let folder = tempfile::tempdir().unwrap();
    model.write(folder.path()).unwrap();
    // The files stay mapped after they are removed.
    TorchModel::open(folder.path()).unwrap()
}

fn tiny() -> TorchModel {
    open(
        &TinyLlama {
            context: CONTEXT,
            ..TinyLlama::default()
        }
        .build(),
    )
}

fn text<T>(result: lm_core::Result<T>) -> String {
    match result {
        Ok(_) => "(no error)".to_owned(),
        Err(error) => error.to_string(),
    }
}

mod weights {
    use super::*;

    #[test]
    fn a_weight_that_is_no_number_is_named() {
        for (tensor, index, value, shown) in [
            ("model.layers.1.mlp.up_proj.weight", 5, f32::NAN, "NaN"),
            ("model.embed_tokens.weight", 8447, f32::INFINITY, "inf"),
            ("model.norm.weight", 0, f32::NEG_INFINITY, "-inf"),
        ] {
            let mut model = TinyLlama::default().build();
            model.tensor_mut(tensor).values[index] = value;
            let folder = tempfile::tempdir().unwrap();
            model.write(folder.path()).unwrap();
            let path = folder.path().display();
            assert_eq!(
                text(TorchModel::open(folder.path())),
                format!(
                    "{path}: tensor `{tensor}`: element {index} is {shown}, expected finite weights"
                )
            );
            let unchecked = LoadOptions::default().check_finite(false);
            TorchModel::open_with(folder.path(), unchecked).unwrap();
        }
    }

    /// Two infinities of opposite sign, and finite weights whose sum is not.
    #[test]
    fn infinities_do_not_cancel_and_large_weights_are_not_infinite() {
        let name = "model.layers.0.mlp.down_proj.weight";
        let mut model = TinyLlama::default().build();
        model.tensor_mut(name).values[3] = f32::NEG_INFINITY;
        model.tensor_mut(name).values[2] = f32::INFINITY;
        let folder = tempfile::tempdir().unwrap();
        model.write(folder.path()).unwrap();
        assert!(text(TorchModel::open(folder.path())).contains("element 2 is inf"));
        model.tensor_mut(name).values[..8].fill(f32::MAX);
        model.write(folder.path()).unwrap();
        TorchModel::open(folder.path()).unwrap();
    }

    /// f16 ends at 65,504, and the largest f32 rounds to infinity in bf16.
    #[test]
    fn weights_that_a_narrower_dtype_cannot_hold() {
        let name = "model.layers.0.mlp.down_proj.weight";
        for (dtype, value) in [(Dtype::F16, 7e4), (Dtype::Bf16, f32::MAX)] {
            let mut model = TinyLlama::default().build();
            model.tensor_mut(name).values[5] = value;
            let folder = tempfile::tempdir().unwrap();
            model.write(folder.path()).unwrap();
            let options = LoadOptions::default().dtype(dtype);
            assert_eq!(
                text(TorchModel::open_with(folder.path(), options)),
                format!(
                    "dtype: expected one that holds every weight, found {dtype}, in which tensor `{name}` overflows"
                )
            );
            TorchModel::open(folder.path()).unwrap();
        }
    }

    /// Overwrites one element of a tensor in a copy of a golden model.
    #[test]
    fn in_half_precision_files_too() {
        for (case, bytes, shown) in [
            ("llama-bf16", bf16::NAN.to_le_bytes(), "NaN"),
            ("llama-bf16", bf16::NEG_INFINITY.to_le_bytes(), "-inf"),
            ("llama-f16", half::f16::INFINITY.to_le_bytes(), "inf"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for entry in std::fs::read_dir(golden(case).unwrap().model()).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
            let path = folder.path().join("model.safetensors");
            let file = std::fs::read(&path).unwrap();
            let (header, metadata) = safetensors::SafeTensors::read_metadata(&file).unwrap();
            let info = metadata.info("model.norm.weight").unwrap();
            let at = header + 8 + info.data_offsets.0 + 2 * 6;
            overwrite(&path, at as u64, &bytes).unwrap();
            assert_eq!(
                text(TorchModel::open(folder.path())),
                format!(
                    "{}: tensor `model.norm.weight`: element 6 is {shown}, expected finite weights",
                    folder.path().display()
                )
            );
        }
    }

    #[test]
    fn in_gguf_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        std::fs::copy(
            golden("gguf-llama").unwrap().folder().join("f32.gguf"),
            &path,
        )
        .unwrap();
        let file = std::fs::read(&path).unwrap();
        let gguf = lm_core::weights::gguf::Gguf::parse(&file).unwrap();
        let norm = gguf.tensor("output_norm.weight").unwrap();
        let at = norm.range.start + 4 * 3;
        overwrite(&path, at as u64, &f32::NAN.to_le_bytes()).unwrap();
        assert_eq!(
            text(TorchModel::open(&path)),
            format!(
                "{}: tensor `output_norm.weight`: element 3 is NaN, expected finite weights",
                path.display()
            )
        );
    }
}

mod devices {
    use super::*;

    /// Nothing is read before the device is found: the model need not even exist.
    #[test]
    fn a_device_that_is_absent() {
        let options = LoadOptions::default().device(Device::Cuda(99));
        let error = text(TorchModel::open_with("no such model", options));
        if error.starts_with("device cuda:99: this machine has ") {
            return;
        }
        assert_eq!(
            error,
            "device cuda:99: this libtorch has no CUDA half; `cargo xtask setup --cuda` brings one, and the linker must \
             be told `-Wl,--no-as-needed -ltorch`"
        );
    }

    #[test]
    fn names_that_are_no_device_and_no_dtype() {
        assert_eq!(
            text("cuda:99999999999999999999".parse::<Device>()),
            "device: expected cpu, cuda or cuda:N, found cuda:99999999999999999999"
        );
        assert_eq!(
            text("CPU".parse::<Device>()),
            "device: expected cpu, cuda or cuda:N, found CPU"
        );
        assert_eq!(
            text("f64".parse::<Dtype>()),
            "dtype: expected f32, bf16 or f16, found f64"
        );
        let json = serde_json::from_str::<LoadOptions>(
            r#"{"dtype":"f32","device":"tpu","check_finite":true}"#,
        );
        assert_eq!(
            json.unwrap_err().to_string().split(" at line").next(),
            Some(
                "device: expected a device (cpu, cuda or cuda:N), devices such as cuda:0,cuda:1, or devices with their layers \
                 such as cuda:0=0-11,cuda:1=12-23, found tpu"
            )
        );
    }
}

mod sessions {
    use super::*;

    type Attempt = (
        &'static str,
        fn(&mut dyn Session) -> lm_core::Result<()>,
        &'static str,
    );

    /// What a session of two rows with 3 and 5 tokens refuses.
    const ATTEMPTS: [Attempt; 17] = [
        (
            "too few chunks",
            |session| session.extend(&[&[1]]).map(drop),
            "chunks: expected one for each of 2 rows, found 1",
        ),
        (
            "too many chunks",
            |session| session.extend(&[&[1], &[2], &[3]]).map(drop),
            "chunks: expected one for each of 2 rows, found 3",
        ),
        (
            "no chunks",
            |session| session.extend(&[]).map(drop),
            "chunks: expected one for each of 2 rows, found 0",
        ),
        (
            "an empty chunk",
            |session| session.extend(&[&[1], &[]]).map(drop),
            "chunk of row 1 is empty, expected at least one token",
        ),
        (
            "an id outside the vocabulary",
            |session| session.extend(&[&[1, 2], &[3, 4, 264]]).map(drop),
            "row 1, position 2: token id 264, but the vocabulary has 264 entries",
        ),
        (
            "the largest id",
            |session| session.extend(&[&[u32::MAX], &[3]]).map(drop),
            "row 0, position 0: token id 4294967295, but the vocabulary has 264 entries",
        ),
        (
            "one token more than the context",
            |session| session.extend(&[&[1], &[2; CONTEXT - 4]]).map(drop),
            "row 1: 25 tokens, but the model's context holds 24",
        ),
        (
            "many tokens more than the context",
            |session| session.extend(&[&[1; 1000], &[2]]).map(drop),
            "row 0: 1003 tokens, but the model's context holds 24",
        ),
        (
            "too few tokens",
            |session| session.append(&[1]).map(drop),
            "chunks: expected one for each of 2 rows, found 1",
        ),
        (
            "no rows selected",
            |session| session.select(&[]),
            "batch is empty, expected at least one row",
        ),
        (
            "a row that is not there",
            |session| session.select(&[0, 2]),
            "row: expected below 2, found 2",
        ),
        (
            "the largest row",
            |session| session.select(&[usize::MAX]),
            "row: expected below 2, found 18446744073709551615",
        ),
        (
            "more rows than any batch",
            |session| session.select(&vec![0; MAX_ROWS + 1]),
            "rows: expected at most 1048576, found 1048577",
        ),
        (
            "one length for two rows",
            |session| session.rewind(&[1]),
            "lengths: expected one for each of 2 rows, found 1",
        ),
        (
            "three lengths for two rows",
            |session| session.rewind(&[1, 1, 1]),
            "lengths: expected one for each of 2 rows, found 3",
        ),
        (
            "a length beyond the row's",
            |session| session.rewind(&[3, 6]),
            "length of row 1: expected at most 5, found 6",
        ),
        (
            "the largest length",
            |session| session.rewind(&[usize::MAX, 0]),
            "length of row 0: expected at most 3, found 18446744073709551615",
        ),
    ];

    const START: [&[u32]; 2] = [&[10, 11, 12], &[20, 21, 22, 23, 24]];
    const NEXT: [&[u32]; 2] = [&[13, 14], &[25]];

    fn expected(begin: &dyn Fn() -> Box<dyn Session>) -> Array2<f32> {
        let mut session = begin();
        session.extend(&START).unwrap();
        session.extend(&NEXT).unwrap()
    }

    /// Bit for bit: a failed call leaves nothing behind.
    fn survives(begin: &dyn Fn() -> Box<dyn Session>) {
        let expected = expected(begin);
        let mut survivor = begin();
        survivor.extend(&START).unwrap();
        for (what, attempt, message) in ATTEMPTS {
            let mut session = begin();
            session.extend(&START).unwrap();
            for session in [&mut session, &mut survivor] {
                assert_eq!(text(attempt(session.as_mut())), message, "{what}");
                assert_eq!(session.rows(), 2, "{what}");
                assert_eq!((session.len(0), session.len(1)), (3, 5), "{what}");
            }
            assert_eq!(session.extend(&NEXT).unwrap(), expected, "{what}");
        }
        assert_eq!(survivor.extend(&NEXT).unwrap(), expected, "all of them");
    }

    #[test]
    fn a_torch_session_is_unchanged_after_an_error() {
        let model: &'static TorchModel = Box::leak(Box::new(tiny()));
        survives(&|| model.begin(2).unwrap());
    }

    #[test]
    fn a_plain_session_is_unchanged_after_an_error() {
        let model: &'static TorchModel = Box::leak(Box::new(tiny()));
        survives(&|| Box::new(PlainSession::new(model, 2).unwrap()));
    }

    #[test]
    fn sessions_of_no_rows_and_of_too_many() {
        let model = tiny();
        let none = "batch is empty, expected at least one row";
        assert_eq!(text(model.begin(0)), none);
        assert_eq!(text(PlainSession::new(&model, 0)), none);
        for rows in [MAX_ROWS + 1, usize::MAX] {
            let many = format!("rows: expected at most 1048576, found {rows}");
            assert_eq!(text(model.begin(rows)), many);
            assert_eq!(text(PlainSession::new(&model, rows)), many);
        }
    }

    #[test]
    fn the_first_chunk_is_called_a_prompt() {
        let model = tiny();
        let error = text(model.begin(2).unwrap().extend(&[&[1], &[]]));
        assert_eq!(
            error,
            "prompt of row 1 is empty, expected at least one token"
        );
    }

    #[test]
    fn a_row_may_fill_the_context_and_not_one_token_more() {
        let model = tiny();
        let whole = vec![5; CONTEXT];
        model.next_logits(&whole).unwrap();
        let over = "row 0: 25 tokens, but the model's context holds 24";
        assert_eq!(text(model.next_logits(&[5; CONTEXT + 1])), over);
        let mut session = model.begin(1).unwrap();
        session.extend(&[&whole]).unwrap();
        assert_eq!(text(session.append(&[5])), over);
        // With room again it goes on.
        session.rewind(&[CONTEXT - 1]).unwrap();
        session.append(&[5]).unwrap();
    }
}

mod runs {
    use super::*;

    #[test]
    fn batches_and_prompts_with_nothing_in_them() {
        let model = tiny();
        let run = Run::default();
        assert_eq!(
            text(model.run(&[], &run)),
            "batch is empty, expected at least one row"
        );
        assert_eq!(
            text(model.run(&[&[1], &[]], &run)),
            "prompt of row 1 is empty, expected at least one token"
        );
        assert_eq!(
            text(model.next_logits(&[])),
            "prompt of row 0 is empty, expected at least one token"
        );
        assert_eq!(
            text(model.run(&[&[1], &[1, 999]], &run)),
            "row 1, position 1: token id 999, but the vocabulary has 264 entries"
        );
    }

    #[test]
    fn heads_the_model_does_not_have() {
        let model = tiny();
        for head in [
            Head::new(3, 0),
            Head::new(0, 4),
            Head::new(usize::MAX, usize::MAX),
        ] {
            let ablation = HeadAblation::silenced([Head::new(0, 0), head]);
            let expected = format!(
                "head {head}: the model has layers 0 to 2 and query heads 0 to 3 (layer-head, both from 0)"
            );
            let run = Run {
                intervention: ablation.clone().into(),
                ..Run::default()
            };
            assert_eq!(text(model.run(&[&[1]], &run)), expected);
            assert_eq!(text(model.begin_ablated(1, &ablation)), expected);
            assert_eq!(text(model.ablated(ablation.clone())), expected);
            let mut found = 0;
            let swept = model.sweep(&[&[1]], &[HeadAblation::none(), ablation], &mut |_, _| {
                found += 1;
                Ok(())
            });
            assert_eq!(text(swept), expected);
            assert!(found <= 1);
        }
        let infinite = HeadAblation::none().with(
            Head::new(1, 2),
            AblationKind::Contribution {
                factor: f32::INFINITY,
            },
        );
        assert_eq!(
            text(model.begin_ablated(1, &infinite)),
            "factor of head 1-2: expected a finite number, found inf"
        );
    }

    #[test]
    fn a_site_the_model_does_not_have() {
        let model = tiny();
        let capture = |site| Run {
            capture: Capture::of([Site::Hidden(0), site], Positions::All),
            ..Run::default()
        };
        model.run(&[&[1, 2]], &capture(Site::Hidden(3))).unwrap();
        let error = text(model.run(&[&[1, 2]], &capture(Site::Hidden(4))));
        assert_eq!(
            error,
            "site: expected Hidden(0) to Hidden(3), found Hidden(4)"
        );
    }

    #[test]
    fn hidden_states_of_another_width() {
        assert_eq!(
            text(tiny().unembed(Array2::zeros((2, 31)).view())),
            "hidden states: expected [n, 32], found (2, 31)"
        );
    }

    /// Only what another engine must bring: the defaults refuse what the engine's own methods refuse, in the same words.
    struct Bare<'a>(&'a TorchModel);

    impl LanguageModel for Bare<'_> {
        fn vocab_size(&self) -> usize {
            self.0.vocab_size()
        }

        fn next_logits(&self, tokens: &[u32]) -> lm_core::Result<ndarray::Array1<f32>> {
            self.0.next_logits(tokens)
        }

        fn context_length(&self) -> Option<usize> {
            self.0.context_length()
        }
    }

    #[test]
    fn scores_of_nothing_and_of_too_much() {
        let model = tiny();
        let long = vec![1; CONTEXT];
        let cases: [(&[u32], &[u32], &str); 5] = [
            (
                &[1],
                &[],
                "continuation is empty, expected at least one token",
            ),
            (&[], &[1], "prefix is empty, expected at least one token"),
            (
                &[1, 2],
                &[3, 999],
                "row 0, position 3: token id 999, but the vocabulary has 264 entries",
            ),
            (
                &[999],
                &[3],
                "row 0, position 0: token id 999, but the vocabulary has 264 entries",
            ),
            (
                &long,
                &[1],
                "row 0: 25 tokens, but the model's context holds 24",
            ),
        ];
        for (prefix, continuation, expected) in cases {
            assert_eq!(text(model.score(prefix, continuation)), expected);
            assert_eq!(text(Bare(&model).score(prefix, continuation)), expected);
        }
        assert_eq!(model.score(&long[1..], &[1]).unwrap().len(), 1);
    }
}

mod generation {
    use super::*;

    fn request(tokens: &[u32]) -> Request {
        Request::unnamed(tokens.to_vec())
    }

    fn run(
        model: &TorchModel,
        requests: &[Request],
        options: &GenerateOptions,
    ) -> lm_core::Result<Vec<Vec<Generation>>> {
        generate::generate(
            model,
            model.text().unwrap(),
            requests,
            options,
            &mut generate::ignore,
        )
    }

    #[test]
    fn options_out_of_their_ranges() {
        let model = tiny();
        let base = GenerateOptions::default;
        let sampling = |sampling| GenerateOptions { sampling, ..base() };
        let cases = [
            (
                GenerateOptions {
                    max_new_tokens: 0,
                    ..base()
                },
                "max-new-tokens: expected at least 1, found 0",
            ),
            (
                GenerateOptions {
                    samples: 0,
                    ..base()
                },
                "samples: expected at least 1, found 0",
            ),
            (
                GenerateOptions { batch: 0, ..base() },
                "batch: expected at least 1, found 0",
            ),
            (
                GenerateOptions {
                    batch: usize::MAX,
                    samples: usize::MAX,
                    ..base()
                },
                "batch: expected at most 1048576, found 18446744073709551615",
            ),
            (
                GenerateOptions {
                    stop: vec!["END".to_owned(), String::new()],
                    ..base()
                },
                "stop string 1 is empty",
            ),
            (
                sampling(Sampling::temperature(-0.5)),
                "temperature: expected a number from 0, found -0.5",
            ),
            (
                sampling(Sampling {
                    top_p: Some(0.0),
                    ..Sampling::default()
                }),
                "top-p: expected above 0, at most 1, found 0",
            ),
            (
                sampling(Sampling {
                    top_p: Some(f32::NAN),
                    ..Sampling::default()
                }),
                "top-p: expected above 0, at most 1, found NaN",
            ),
            (
                sampling(Sampling {
                    top_k: Some(0),
                    ..Sampling::default()
                }),
                "top-k: expected at least 1, found 0",
            ),
            (
                sampling(Sampling {
                    repetition_penalty: f32::INFINITY,
                    ..Sampling::default()
                }),
                "repetition penalty: expected a positive number, found inf",
            ),
        ];
        for (options, expected) in cases {
            assert_eq!(text(run(&model, &[request(&[1])], &options)), expected);
            let hello = Conversation::new().user("Hi");
            assert_eq!(text(model.reply(&hello, &options)), expected);
        }
    }

    /// All requests are looked at before one is run, and the row named is the request's place in the list, not in a batch.
    #[test]
    fn a_bad_request_is_named_before_any_is_run() {
        let model = tiny();
        let options = GenerateOptions {
            batch: 2,
            max_new_tokens: 2,
            ..GenerateOptions::default()
        };
        let good = request(&[1, 2]);
        let refused = |bad: &[u32]| {
            let requests = [good.clone(), good.clone(), good.clone(), request(bad)];
            let mut pieces = 0;
            let result = generate::generate(
                &model,
                model.text().unwrap(),
                &requests,
                &options,
                &mut |_| {
                    pieces += 1;
                    ControlFlow::Continue(())
                },
            );
            assert_eq!(pieces, 0, "tokens were generated before the error");
            text(result)
        };
        assert_eq!(
            refused(&[]),
            "prompt of row 3 is empty, expected at least one token"
        );
        assert_eq!(
            refused(&[1, 264]),
            "row 3, position 1: token id 264, but the vocabulary has 264 entries"
        );
        assert_eq!(
            refused(&[1; CONTEXT + 1]),
            "row 3: 25 tokens, but the model's context holds 24"
        );
        assert_eq!(
            text(run(&model, &[], &options)),
            "batch is empty, expected at least one row"
        );
    }

    #[test]
    fn a_prompt_that_fills_the_context_gets_one_token() {
        let model = tiny();
        let options = GenerateOptions {
            max_new_tokens: 5,
            ignore_stop_tokens: true,
            ..GenerateOptions::default()
        };
        let done = run(&model, &[request(&[1; CONTEXT])], &options).unwrap();
        assert_eq!(done[0][0].tokens.len(), 1);
        assert_eq!(done[0][0].finish, FinishReason::Context);
        let done = run(&model, &[request(&[1; CONTEXT - 1])], &options).unwrap();
        assert_eq!(done[0][0].tokens.len(), 2);
        assert_eq!(done[0][0].finish, FinishReason::Context);
    }

    /// Numbers far beyond what there is are no error and cost nothing.
    #[test]
    fn more_candidates_than_tokens() {
        let model = tiny();
        let options = GenerateOptions {
            max_new_tokens: 2,
            first_logits: usize::MAX,
            sampling: Sampling {
                top_k: Some(usize::MAX),
                ..Sampling::temperature(1.0)
            },
            ..GenerateOptions::default()
        };
        let done = run(&model, &[request(&[1])], &options).unwrap();
        assert_eq!(done[0][0].first_logits.len(), TinyLlama::VOCAB_SIZE);
    }

    #[test]
    fn weights_alone_can_run_but_not_read() {
        let mut model = TinyLlama::default().build();
        model.tokenizer = None;
        let model = open(&model);
        model.next_logits(&[1, 2]).unwrap();
        let error = text(model.reply(&Conversation::new().user("Hi"), &GenerateOptions::default()));
        assert!(error.starts_with("no tokenizer.json in "), "{error}");
    }

    /// The tiny context holds one short turn; the second does not fit, and is as if it had not been said.
    #[test]
    fn a_dialogue_is_as_it_was_after_an_error() {
        let model = open(
            &TinyLlama {
                context: 64,
                ..TinyLlama::default()
            }
            .build(),
        );
        let options = GenerateOptions {
            max_new_tokens: 2,
            ..GenerateOptions::default()
        };
        let start = || Dialogue::new(&model, model.text().unwrap(), Conversation::new()).unwrap();
        let say = |dialogue: &mut Dialogue<'_>, words: &str| {
            dialogue.say(words, &options, &mut generate::ignore)
        };
        let (mut tried, mut untried) = (start(), start());
        let first = say(&mut tried, "Hi").unwrap();
        assert_eq!(first, say(&mut untried, "Hi").unwrap());
        let before = tried.conversation().clone();
        let error = text(say(&mut tried, &"long ".repeat(50)));
        assert!(
            error.starts_with("row 0: ") && error.ends_with("but the model's context holds 64"),
            "{error}"
        );
        assert_eq!(tried.conversation(), &before);
        assert_eq!(
            say(&mut tried, "Yes").unwrap(),
            say(&mut untried, "Yes").unwrap()
        );
        let two = GenerateOptions {
            samples: 2,
            ..options.clone()
        };
        assert_eq!(
            text(tried.say("Hi", &two, &mut generate::ignore)),
            "samples: expected 1 in a dialogue, found 2"
        );
    }
}
