//! Ways of decoding: what a strategy asks for is what it gets, for the replies it wants, and nobody else notices.
#![allow(missing_docs)]

mod scripted;

use std::sync::{Mutex, OnceLock};

use lm_core::generate::{generate, generate_with, ignore};
use lm_core::strategy::{Plain, RowStrategy, Step, Strategy, Stream};
use lm_core::{
    Capture, FinishReason, GenerateOptions, Generation, LanguageModel, PlainSession, Positions,
    Request, Result, Sampling, Session, Site, TextInterface, logits,
};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert_eq, proptest};
use scripted::{Call, Scripted, greedy, text};

fn interface() -> &'static TextInterface {
    static TEXT: OnceLock<TextInterface> = OnceLock::new();
    TEXT.get_or_init(text)
}

/// As many tokens a reply, whatever they are.
fn tokens(count: usize) -> GenerateOptions {
    GenerateOptions {
        max_new_tokens: count,
        ignore_stop_tokens: true,
        ..GenerateOptions::default()
    }
}

fn requests(count: u32) -> Vec<Request> {
    (0..count)
        .map(|index| Request::unnamed((0..=index).map(|token| token + 65).collect()))
        .collect()
}

fn run(
    model: &dyn LanguageModel,
    requests: &[Request],
    options: &GenerateOptions,
    strategy: &dyn Strategy,
) -> Vec<Vec<Generation>> {
    generate_with(model, interface(), requests, options, strategy, &mut ignore).unwrap()
}

/// Makes one token impossible in the replies to every other request.
struct Ban(u32);

struct Banned(u32);

impl Strategy for Ban {
    fn begin(
        &self,
        index: usize,
        _: &Request,
        _: usize,
    ) -> Result<Option<Box<dyn RowStrategy + '_>>> {
        Ok((index % 2 == 1).then(|| Box::new(Banned(self.0)) as Box<dyn RowStrategy>))
    }
}

impl RowStrategy for Banned {
    fn refine(&mut self, step: &mut Step<'_>) -> Result<Option<Vec<f32>>> {
        let mut refined = step.logits().to_vec();
        refined[self.0 as usize] = f32::NEG_INFINITY;
        Ok(Some(refined))
    }
}

/// Request, sample, tokens and finish of a reply.
type Ended = (usize, usize, Vec<u32>, FinishReason);

/// `share · own + (1 − share) · second`, for the first `steps` tokens of the requests that `wanted` names.
struct Blend {
    second: Vec<u32>,
    share: f32,
    steps: usize,
    lazy: bool,
    wanted: fn(usize) -> bool,
    ended: Mutex<Vec<Ended>>,
}

struct Blended<'a> {
    of: &'a Blend,
    place: (usize, usize),
}

impl Blend {
    fn new(second: &[u32], steps: usize) -> Self {
        Self {
            second: second.to_vec(),
            share: 0.4,
            steps,
            lazy: false,
            wanted: |_| true,
            ended: Mutex::default(),
        }
    }

    fn mix(&self, own: &[f32], second: &[f32]) -> Vec<f32> {
        own.iter()
            .zip(second)
            .map(|(own, second)| self.share * own + (1.0 - self.share) * second)
            .collect()
    }

    /// The same by hand: two plain sessions, one step after the other.
    fn by_hand(
        &self,
        model: &dyn LanguageModel,
        index: usize,
        prompt: &[u32],
        most: usize,
    ) -> Vec<u32> {
        let mut own = PlainSession::new(model, 1).unwrap();
        let mut second = PlainSession::new(model, 1).unwrap();
        let mut next = own.extend(&[prompt]).unwrap();
        let mut beside = second.extend(&[&self.second]).unwrap();
        let mut tokens = Vec::new();
        while tokens.len() < most {
            let mut logits = next.row(0).to_vec();
            if (self.wanted)(index) && tokens.len() < self.steps {
                logits = self.mix(&logits, &beside.row(0).to_vec());
            }
            let token = logits::argmax(&logits).unwrap();
            tokens.push(token);
            next = own.append(&[token]).unwrap();
            beside = second.append(&[token]).unwrap();
        }
        tokens
    }
}

impl Strategy for Blend {
    fn streams(&self, _: usize, _: &Request) -> Result<Vec<Stream<'_>>> {
        let stream = Stream::new(&self.second);
        Ok(vec![if self.lazy { stream.lazy() } else { stream }])
    }

    fn begin(
        &self,
        index: usize,
        _: &Request,
        sample: usize,
    ) -> Result<Option<Box<dyn RowStrategy + '_>>> {
        let place = (index, sample);
        Ok((self.wanted)(index)
            .then(|| Box::new(Blended { of: self, place }) as Box<dyn RowStrategy>))
    }
}

impl RowStrategy for Blended<'_> {
    fn refine(&mut self, step: &mut Step<'_>) -> Result<Option<Vec<f32>>> {
        if step.number() >= self.of.steps {
            return Ok(None);
        }
        let second = step.stream(0)?;
        Ok(Some(self.of.mix(step.logits(), &second)))
    }

    fn keeps(&self, _: usize, step: usize) -> bool {
        step < self.of.steps
    }

    fn end(&mut self, generated: &[u32], finish: FinishReason) {
        let (request, sample) = self.place;
        let ended = (request, sample, generated.to_vec(), finish);
        self.of.ended.lock().unwrap().push(ended);
    }
}

#[test]
fn no_strategy_is_none() {
    let model = Scripted::new();
    let options = GenerateOptions {
        samples: 2,
        batch: 5,
        first_logits: 3,
        sampling: Sampling::temperature(1.0),
        ..GenerateOptions::default()
    };
    let plain = generate(&model, interface(), &requests(4), &options, &mut ignore).unwrap();
    let calls = model.calls();
    assert_eq!(run(&model, &requests(4), &options, &Plain), plain);
    assert_eq!(model.calls(), calls);
    // Nor one that wants no reply.
    let mut nobody = Blend::new(&[1, 2], 9);
    nobody.wanted = |_| false;
    let options = GenerateOptions {
        batch: 10,
        ..options
    };
    assert_eq!(run(&model, &requests(4), &options, &nobody), plain);
    assert_eq!(model.calls(), calls);
}

#[test]
fn a_token_is_banned_in_some_replies_only() {
    let model = Scripted::new();
    let requests = requests(4);
    let plain = run(&model, &requests, &tokens(12), &Plain);
    for (index, replies) in plain.iter().enumerate() {
        // A token that this reply would hold.
        let token = replies[0].tokens[5];
        let banned = run(&model, &requests, &tokens(12), &Ban(token));
        for (other, (found, plain)) in banned.iter().zip(&plain).enumerate() {
            if other % 2 == 0 {
                assert_eq!(found, plain);
            } else {
                assert!(!found[0].tokens.contains(&token));
            }
        }
        if index % 2 == 1 {
            assert_eq!(banned[index][0].tokens[..5], plain[index][0].tokens[..5]);
            // What is reported are the model's own numbers.
            let own = [requests[index].tokens.as_slice(), &banned[index][0].tokens].concat();
            let expected = model.score(
                &requests[index].tokens,
                &own[requests[index].tokens.len()..],
            );
            assert_eq!(banned[index][0].logprobs, expected.unwrap());
        }
    }
}

#[test]
fn a_second_stream_shares_the_batch_and_leaves_it_when_it_is_not_needed() {
    let model = Scripted::new();
    let blend = Blend::new(&[1, 2], 2);
    // Two replies and their streams, then one.
    let options = GenerateOptions {
        batch: 5,
        ..tokens(4)
    };
    run(&model, &requests(3), &options, &blend);
    assert_eq!(
        model.calls(),
        [
            Call::Begin(3),
            // The streams' prompt is one, and is read once.
            Call::Extend(vec![1, 2, 2]),
            Call::Select(vec![0, 2, 1, 2]),
            Call::Extend(vec![1, 1, 1, 1]),
            Call::Select(vec![0, 2]),
            Call::Extend(vec![1, 1]),
            Call::Extend(vec![1, 1]),
            Call::Begin(2),
            Call::Extend(vec![3, 2]),
            Call::Extend(vec![1, 1]),
            Call::Select(vec![0]),
            Call::Extend(vec![1]),
            Call::Extend(vec![1]),
        ]
    );
}

/// One reply ends at once, and its stream with it.
#[test]
fn a_reply_that_ends_takes_its_stream_along() {
    let model = Scripted::new();
    let blend = Blend::new(&[1, 2], 9);
    let mut on_piece = |piece: lm_core::Piece<'_>| {
        if piece.request == 0 {
            std::ops::ControlFlow::Break(())
        } else {
            std::ops::ControlFlow::Continue(())
        }
    };
    let done = generate_with(
        &model,
        interface(),
        &requests(2),
        &tokens(2),
        &blend,
        &mut on_piece,
    )
    .unwrap();
    assert_eq!(
        model.calls(),
        [
            Call::Begin(3),
            Call::Extend(vec![1, 2, 2]),
            Call::Select(vec![0, 2, 1, 2]),
            Call::Select(vec![2, 3]),
            Call::Extend(vec![1, 1]),
        ]
    );
    let ended = blend.ended.into_inner().unwrap();
    let expected = [
        (0, 0, done[0][0].tokens.clone(), FinishReason::Cancelled),
        (1, 0, done[1][0].tokens.clone(), FinishReason::Length),
    ];
    assert_eq!(ended, expected);
}

/// What is asked at step 2 only is read then, in one chunk; what is never asked is never read.
#[test]
fn a_lazy_stream_reads_when_it_is_asked() {
    struct Once;
    struct At2;
    impl Strategy for Once {
        fn streams(&self, _: usize, _: &Request) -> Result<Vec<Stream<'_>>> {
            Ok(vec![
                Stream::new(vec![1, 2]).lazy(),
                Stream::new(vec![3]).lazy(),
            ])
        }
        fn begin(
            &self,
            _: usize,
            _: &Request,
            _: usize,
        ) -> Result<Option<Box<dyn RowStrategy + '_>>> {
            Ok(Some(Box::new(At2)))
        }
    }
    impl RowStrategy for At2 {
        fn refine(&mut self, step: &mut Step<'_>) -> Result<Option<Vec<f32>>> {
            if step.number() != 2 {
                return Ok(None);
            }
            let found = step.stream(0)?;
            // Asking again costs nothing.
            assert_eq!(step.stream(0)?, found);
            let read = [&[1, 2], step.generated()].concat();
            assert_eq!(*found, Scripted::new().next_logits(&read).unwrap().to_vec());
            assert_eq!(step.prompt(), [65]);
            Ok(Some(found.into_owned()))
        }
    }
    let model = Scripted::new();
    run(&model, &requests(1), &tokens(4), &Once);
    let one = || Call::Extend(vec![1]);
    assert_eq!(
        model.calls(),
        [
            Call::Begin(1),
            one(),
            one(),
            one(),
            Call::Begin(1),
            Call::Extend(vec![4]),
            one(),
        ]
    );
}

#[test]
fn samples_have_streams_of_their_own() {
    let model = Scripted::new();
    let blend = Blend::new(&[1, 2], 3);
    let options = |samples, batch| GenerateOptions {
        samples,
        batch,
        sampling: Sampling::temperature(1.0),
        ..tokens(8)
    };
    let alone = run(&model, &requests(3), &options(4, 2), &blend);
    for batch in [3, 8, 16, 64] {
        assert_eq!(run(&model, &requests(3), &options(4, batch), &blend), alone);
    }
    assert_ne!(alone[0][0].tokens, alone[0][1].tokens);
}

#[test]
fn a_stream_without_positions_ends_the_reply() {
    let mut model = Scripted::new();
    model.context = Some(8);
    let finish = |steps| {
        let done = run(
            &model,
            &requests(1),
            &tokens(20),
            &Blend::new(&[1; 5], steps),
        );
        (done[0][0].tokens.len(), done[0][0].finish)
    };
    // 5 + 3 tokens fill the stream: a fourth can be chosen, but not read.
    assert_eq!(finish(20), (4, FinishReason::Context));
    // Dropped in time it is in nobody's way: 1 + 7, and one more.
    assert_eq!(finish(4), (8, FinishReason::Context));
}

#[test]
fn what_is_refused() {
    struct Bad(
        Vec<Stream<'static>>,
        fn(&mut Step<'_>) -> Result<Option<Vec<f32>>>,
        Capture,
    );
    struct Row(fn(&mut Step<'_>) -> Result<Option<Vec<f32>>>);
    impl Strategy for Bad {
        fn capture(&self) -> Capture {
            self.2.clone()
        }
        fn streams(&self, index: usize, _: &Request) -> Result<Vec<Stream<'_>>> {
            Ok(if index == 1 {
                self.0.clone()
            } else {
                Vec::new()
            })
        }
        fn begin(
            &self,
            _: usize,
            _: &Request,
            _: usize,
        ) -> Result<Option<Box<dyn RowStrategy + '_>>> {
            Ok(Some(Box::new(Row(self.1))))
        }
    }
    impl RowStrategy for Row {
        fn refine(&mut self, step: &mut Step<'_>) -> Result<Option<Vec<f32>>> {
            (self.0)(step)
        }
    }
    let mut model = Scripted::new();
    model.context = Some(8);
    let refused = |streams: &[&[u32]], refine, capture| {
        let streams = streams
            .iter()
            .map(|prompt| Stream::new(prompt.to_vec()))
            .collect();
        let options = GenerateOptions {
            batch: 3,
            ..tokens(2)
        };
        let bad = Bad(streams, refine, capture);
        generate_with(
            &model,
            interface(),
            &requests(2),
            &options,
            &bad,
            &mut ignore,
        )
        .unwrap_err()
        .to_string()
    };
    let none = |_: &mut Step<'_>| Ok(None);
    let cases: [(&[&[u32]], &str); 4] = [
        (
            &[&[1], &[]],
            "stream 1 of request 1 is empty, expected at least one token",
        ),
        (
            &[&[1, 264]],
            "row 1, position 1: token id 264, but the vocabulary has 264 entries",
        ),
        (
            &[&[1; 9]],
            "row 1: 9 tokens, but the model's context holds 8",
        ),
        (
            &[&[1], &[2], &[3]],
            "batch: expected at least 4 for a reply to request 1 and its streams, found 3",
        ),
    ];
    for (streams, expected) in cases {
        assert_eq!(refused(streams, none, Capture::none()), expected);
    }
    assert_eq!(
        refused(&[], none, Capture::of([Site::FinalNorm], Positions::Last)),
        "strategy: expected one that wants no states: they are shown by generate_open only, found [FinalNorm]"
    );
    assert_eq!(model.calls(), []);
    assert_eq!(
        refused(
            &[&[1]],
            |step| step.stream(1).map(|_| None),
            Capture::none()
        ),
        "stream: expected one that was declared and is still kept, found 1"
    );
    assert_eq!(
        refused(&[], |_| Ok(Some(vec![1.0])), Capture::none()),
        "logits of a strategy: expected 264, found 1"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Token by token, whatever runs beside, however long the second stream is needed, and whoever wants one.
    #[test]
    fn a_blend_of_two_streams_equals_the_loop_by_hand(
        prompts in prop::collection::vec(prop::collection::vec(0..264_u32, 1..5), 1..6),
        second in prop::collection::vec(0..264_u32, 1..5),
        batch in 2..9_usize,
        steps in 0..8_usize,
        lazy in any::<bool>(),
        all in any::<bool>(),
    ) {
        let model = Scripted::new();
        let mut blend = Blend::new(&second, steps);
        blend.lazy = lazy;
        blend.wanted = if all { |_| true } else { |index| index % 2 == 0 };
        let requests: Vec<Request> = prompts.iter().cloned().map(Request::unnamed).collect();
        let done = run(&model, &requests, &GenerateOptions { batch, ..tokens(7) }, &blend);
        for (index, (prompt, replies)) in prompts.iter().zip(&done).enumerate() {
            let expected = blend.by_hand(&model, index, prompt, 7);
            prop_assert_eq!(&replies[0].tokens, &expected);
            if !(blend.wanted)(index) || steps == 0 {
                prop_assert_eq!(&replies[0].tokens, &greedy(&model, prompt, &[], 7));
            }
        }
    }
}

#[cfg(feature = "torch")]
mod with_weights {
    use lm_core::generate::generate_open;
    use lm_core::{HeadAblation, OpenModel, Run, TorchModel};
    use lm_testkit::{TinyLlama, Tolerance, assert_close};

    use super::*;

    fn model() -> TorchModel {
        let folder = tempfile::tempdir().unwrap();
        TinyLlama::default().write(folder.path()).unwrap();
        TorchModel::open(folder.path()).unwrap()
    }

    #[test]
    fn a_blend_of_two_streams_equals_the_loop_by_hand() {
        let model = model();
        for (batch, steps, lazy) in [
            (2, 5, false),
            (16, 5, false),
            (16, 100, false),
            (5, 7, true),
        ] {
            let mut blend = Blend::new(&[260, 66, 67], steps);
            blend.lazy = lazy;
            blend.wanted = |index| index != 1;
            let done = run(
                &model,
                &requests(4),
                &GenerateOptions {
                    batch,
                    ..tokens(12)
                },
                &blend,
            );
            for (index, (request, replies)) in requests(4).iter().zip(&done).enumerate() {
                let expected = blend.by_hand(&model, index, &request.tokens, 12);
                assert_eq!(
                    replies[0].tokens, expected,
                    "batch {batch}, {steps} steps, request {index}"
                );
            }
        }
    }

    /// Each step shows the states of what its own row was fed last, also after rows have left.
    #[test]
    fn states_are_those_of_the_replys_own_row() {
        struct Look<'a>(&'a TorchModel, &'a HeadAblation);
        struct Looking<'a>(&'a TorchModel, &'a HeadAblation);
        impl Strategy for Look<'_> {
            fn capture(&self) -> Capture {
                Capture::of([Site::Hidden(2), Site::FinalNorm], Positions::Last)
            }
            fn streams(&self, _: usize, _: &Request) -> Result<Vec<Stream<'_>>> {
                Ok(vec![Stream::new(vec![9, 8])])
            }
            fn begin(
                &self,
                index: usize,
                _: &Request,
                _: usize,
            ) -> Result<Option<Box<dyn RowStrategy + '_>>> {
                Ok((index != 1).then(|| Box::new(Looking(self.0, self.1)) as Box<dyn RowStrategy>))
            }
        }
        impl RowStrategy for Looking<'_> {
            fn refine(&mut self, step: &mut Step<'_>) -> Result<Option<Vec<f32>>> {
                let found = step.captured().unwrap();
                let read = [step.prompt(), step.generated()].concat();
                let run = Run {
                    intervention: self.1.clone().into(),
                    capture: Capture::of([Site::Hidden(2), Site::FinalNorm], Positions::Last),
                    ..Run::default()
                };
                let whole = self.0.run(&[&read], &run)?;
                assert_eq!(found.values.len(), 2);
                for (found, expected) in found.values.iter().zip(&whole.captured[0].values) {
                    let (found, expected) =
                        (found.as_slice().unwrap(), expected.as_slice().unwrap());
                    assert_close("state", found, expected, Tolerance::TWO_WAYS);
                }
                let second = self
                    .0
                    .ablated(self.1.clone())?
                    .next_logits(&[&[9, 8], step.generated()].concat())?;
                assert_close(
                    "stream",
                    &step.stream(0)?,
                    second.as_slice().unwrap(),
                    Tolerance::TWO_WAYS,
                );
                Ok(None)
            }
        }
        let model = model();
        let options = GenerateOptions {
            samples: 2,
            batch: 9,
            ..tokens(5)
        };
        let heads: Vec<_> = model.shape().all_heads().take(3).collect();
        for ablation in [HeadAblation::none(), HeadAblation::silenced(heads)] {
            let look = Look(&model, &ablation);
            let done = generate_open(
                &model,
                &ablation.clone().into(),
                interface(),
                &requests(3),
                &options,
                &look,
                &mut ignore,
            );
            let view = model.ablated(ablation.clone()).unwrap();
            let plain = run(&view, &requests(3), &options, &Plain);
            for (found, plain) in done.unwrap().iter().flatten().zip(plain.iter().flatten()) {
                assert_eq!(found.tokens, plain.tokens);
            }
        }
    }
}
