//! What a reply may depend on: nothing but itself where `Exact` is asked, and little more where it is not.
#![allow(missing_docs)]

mod scripted;

use std::sync::Mutex;

use lm_core::generate::generate_with;
use lm_core::strategy::{Plain, RowStrategy, Step, Strategy, Stream};
use lm_core::{Determinism, GenerateOptions, Generation, LanguageModel, Request, Result};
use scripted::{Call, Scripted, text};

fn exact() -> GenerateOptions {
    GenerateOptions {
        determinism: Determinism::Exact,
        max_new_tokens: 8,
        ignore_stop_tokens: true,
        ..GenerateOptions::default()
    }
}

fn requests() -> Vec<Request> {
    let prompts: [&[u32]; 5] = [
        &[260, 72, 101, 108, 108, 111, 33],
        &[260, 1],
        &[260, 200, 3, 77, 77, 77, 12, 250, 9, 41, 0],
        &[260],
        &[260, 5, 5, 5],
    ];
    prompts
        .map(|prompt| Request::unnamed(prompt.to_vec()))
        .into()
}

fn run(
    model: &dyn LanguageModel,
    requests: &[Request],
    options: &GenerateOptions,
    strategy: &dyn Strategy,
) -> Vec<Vec<Generation>> {
    let go_on = &mut lm_core::generate::ignore;
    generate_with(model, &text(), requests, options, strategy, go_on).unwrap()
}

/// Logits of each step by request and sample, own and of a second stream; takes the mean of both if it is to `blend`.
#[derive(Default)]
struct Trace {
    blend: bool,
    steps: Mutex<Vec<Traced>>,
}

#[derive(Clone, Debug)]
#[allow(dead_code, reason = "looked at with weights only")]
struct Traced {
    place: (usize, usize),
    generated: Vec<u32>,
    own: Vec<f32>,
    second: Vec<f32>,
}

struct Tracing<'a>(&'a Trace, (usize, usize));

impl Strategy for Trace {
    fn streams(&self, _: usize, _: &Request) -> Result<Vec<Stream<'_>>> {
        Ok(vec![Stream::new(vec![260, 66, 67])])
    }

    fn begin(
        &self,
        index: usize,
        _: &Request,
        sample: usize,
    ) -> Result<Option<Box<dyn RowStrategy + '_>>> {
        Ok(Some(Box::new(Tracing(self, (index, sample)))))
    }
}

impl RowStrategy for Tracing<'_> {
    fn refine(&mut self, step: &mut Step<'_>) -> Result<Option<Vec<f32>>> {
        let (own, second) = (step.logits().to_vec(), step.stream(0)?.into_owned());
        let mean = own
            .iter()
            .zip(&second)
            .map(|(own, second)| (own + second) / 2.0)
            .collect();
        let generated = step.generated().to_vec();
        self.0.steps.lock().unwrap().push(Traced {
            place: self.1,
            generated,
            own,
            second,
        });
        Ok(self.0.blend.then_some(mean))
    }
}

#[test]
fn exact_runs_each_row_alone_and_reads_prompts_whole() {
    let model = Scripted::new();
    let options = GenerateOptions {
        samples: 2,
        max_new_tokens: 2,
        ..exact()
    };
    run(&model, &requests()[..2], &options, &Plain);
    let once = |prompt| {
        [
            Call::Begin(1),
            Call::Extend(vec![prompt]),
            Call::Extend(vec![1]),
        ]
    };
    assert_eq!(model.calls(), [once(7), once(7), once(2), once(2)].concat());

    let batched = GenerateOptions {
        determinism: Determinism::Fast,
        ..options.clone()
    };
    let plain = run(&model, &requests(), &batched, &Plain);
    assert_eq!(run(&model, &requests(), &options, &Plain), plain);
    model.calls();

    // Streams are rows too, and a batch of 1 is enough for any number of them.
    let options = GenerateOptions {
        batch: 1,
        samples: 1,
        ..options
    };
    run(&model, &requests()[..1], &options, &Trace::default());
    let rows_alone = [
        Call::Begin(1),
        Call::Extend(vec![7]),
        Call::Begin(1),
        Call::Extend(vec![3]),
        Call::Extend(vec![1]),
        Call::Extend(vec![1]),
    ];
    assert_eq!(model.calls(), rows_alone);
}

#[test]
fn the_mode_is_an_option_like_others() {
    let json = serde_json::to_value(exact()).unwrap();
    assert_eq!(json["determinism"], "exact");
    assert_eq!(
        serde_json::from_value::<GenerateOptions>(json).unwrap(),
        exact()
    );
    let fast: GenerateOptions = serde_json::from_str(r#"{"determinism": "fast"}"#).unwrap();
    assert_eq!(fast, GenerateOptions::default());
    assert!(
        serde_json::to_value(fast)
            .unwrap()
            .get("determinism")
            .is_none()
    );
}

#[cfg(feature = "torch")]
mod with_weights {
    use lm_core::{Conversation, Dialogue, Prompt, Sampling, TorchModel};
    use lm_testkit::TinyLlama;

    use super::*;

    fn model() -> TorchModel {
        let folder = tempfile::tempdir().unwrap();
        TinyLlama::default().write(folder.path()).unwrap();
        TorchModel::open(folder.path()).unwrap()
    }

    /// Everything a reply holds, to the bit.
    fn bits(reply: &Generation) -> (Vec<u32>, Vec<u64>, Vec<(u32, u32)>) {
        let logprobs = reply.logprobs.iter().map(|value| value.to_bits()).collect();
        let first = reply
            .first_logits
            .iter()
            .map(|(id, logit)| (*id, logit.to_bits()))
            .collect();
        (reply.tokens.clone(), logprobs, first)
    }

    #[test]
    fn exact_does_not_depend_on_batch_order_or_company() {
        let model = model();
        for sampling in [Sampling::greedy(), Sampling::temperature(1.0)] {
            for blend in [None, Some(true)] {
                let options = GenerateOptions {
                    samples: 3,
                    first_logits: 264,
                    sampling,
                    ..exact()
                };
                let run = |requests: &[Request], batch| {
                    let options = GenerateOptions {
                        batch,
                        ..options.clone()
                    };
                    match blend {
                        None => run(&model, requests, &options, &Plain),
                        Some(blend) => run(
                            &model,
                            requests,
                            &options,
                            &Trace {
                                blend,
                                ..Trace::default()
                            },
                        ),
                    }
                };
                let expected = run(&requests(), 1);
                for batch in [2, 5, 16] {
                    for (found, expected) in run(&requests(), batch)
                        .iter()
                        .flatten()
                        .zip(expected.iter().flatten())
                    {
                        assert_eq!(bits(found), bits(expected), "batch {batch}");
                    }
                }
                let order = [3, 1, 4, 0, 2];
                let shuffled: Vec<Request> =
                    order.iter().map(|&at| requests()[at].clone()).collect();
                for (found, at) in run(&shuffled, 4).iter().zip(order) {
                    for (found, expected) in found.iter().zip(&expected[at]) {
                        assert_eq!(bits(found), bits(expected), "request {at} elsewhere");
                    }
                }
                for (at, request) in requests().into_iter().enumerate() {
                    let alone = run(&[request], 16);
                    for (found, expected) in alone[0].iter().zip(&expected[at]) {
                        assert_eq!(bits(found), bits(expected), "request {at} alone");
                    }
                }
            }
        }
    }

    #[test]
    fn fast_drifts_from_exact_by_rounding_only() {
        let model = model();
        let trace = |determinism, batch| {
            let trace = Trace::default();
            let options = GenerateOptions {
                determinism,
                batch,
                max_new_tokens: 24,
                ..exact()
            };
            run(&model, &requests(), &options, &trace);
            let mut steps = trace.steps.into_inner().unwrap();
            steps.sort_by_key(|step| (step.place, step.generated.len()));
            steps
        };
        let exact = trace(Determinism::Exact, 1);
        assert_eq!(exact.len(), 5 * 24);
        for batch in [2, 6, 16] {
            let fast = trace(Determinism::Fast, batch);
            let mut compared = 0;
            for (fast, exact) in fast.iter().zip(&exact) {
                // From where two tokens were as good as equal, the replies are two texts.
                if fast.generated != exact.generated {
                    continue;
                }
                let pairs = fast
                    .own
                    .iter()
                    .zip(&exact.own)
                    .chain(fast.second.iter().zip(&exact.second));
                let drift = pairs
                    .map(|(fast, exact)| (fast - exact).abs())
                    .fold(0.0, f32::max);
                assert!(
                    drift < 1e-4,
                    "batch {batch}, {:?}, step {}: {drift}",
                    fast.place,
                    fast.generated.len()
                );
                compared += 1;
            }
            assert!(compared > 100, "{compared} steps compared");
        }
    }

    /// A dialogue that has read half of it already answers as if it had not.
    #[test]
    fn an_exact_dialogue_forgets_how_it_came_there() {
        let model = model();
        let text = model.text().unwrap();
        let mut dialogue = Dialogue::new(&model, text, Conversation::new()).unwrap();
        let go_on = &mut lm_core::generate::ignore;
        let fast = GenerateOptions {
            determinism: Determinism::Fast,
            ..exact()
        };
        dialogue.say("Hello", &fast, go_on).unwrap();
        let asked = dialogue.conversation().clone().user("And then?");
        let (found, reused) = dialogue.say("And then?", &exact(), go_on).unwrap();
        let prompt = text.encode(&Prompt::Chat(asked)).unwrap().into_ids();
        let expected = run(&model, &[Request::unnamed(prompt)], &exact(), &Plain);
        assert_eq!((bits(&found), reused), (bits(&expected[0][0]), 0));
        // What it has read serves a fast turn again.
        let (_, reused) = dialogue.say("Well", &fast, go_on).unwrap();
        assert!(reused > 0);
    }
}
