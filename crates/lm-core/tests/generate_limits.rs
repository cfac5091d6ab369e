//! Generation within limits: budgets of tokens and time, cancellation, and rows that leave the session when they are done.
#![allow(missing_docs)]

mod scripted;

use std::ops::ControlFlow;
use std::time::Duration;

use lm_core::generate::{self, generate, ignore};
use lm_core::{
    CancelToken, Conversation, Dialogue, FinishReason, GenerateOptions, Generation, LanguageModel,
    Piece, Prompt, Request, Result, TextInterface,
};
use ndarray::Array1;
use proptest::prelude::*;
use scripted::{Call, Scripted, greedy, text};

fn requests(count: u32) -> Vec<Request> {
    (0..count)
        .map(|index| Request::unnamed((0..=index).map(|token| token + 65).collect()))
        .collect()
}

/// Twelve tokens a reply, whatever they are.
fn twelve() -> GenerateOptions {
    GenerateOptions {
        max_new_tokens: 12,
        ignore_stop_tokens: true,
        ..GenerateOptions::default()
    }
}

fn run(
    model: &dyn LanguageModel,
    requests: &[Request],
    options: &GenerateOptions,
) -> Vec<Vec<Generation>> {
    generate(model, &text(), requests, options, &mut ignore).unwrap()
}

fn prompts_and_tokens(requests: &[Request], done: &[Vec<Generation>]) -> usize {
    let read = |(request, replies): (&Request, &Vec<Generation>)| {
        let begun = replies
            .iter()
            .filter(|reply| !reply.tokens.is_empty())
            .count();
        let generated: usize = replies.iter().map(|reply| reply.tokens.len()).sum();
        generated + if begun > 0 { request.tokens.len() } else { 0 }
    };
    requests.iter().zip(done).map(read).sum()
}

/// What is asked of the session in which order, and that a row leaves it as soon as it is done.
#[test]
fn rows_that_are_done_leave_the_session() {
    let model = Scripted::new();
    let requests = requests(3);
    // Each row is told to stop after another number of tokens.
    let mut seen = [0; 3];
    let mut on_piece = |piece: Piece<'_>| {
        seen[piece.request] += 1;
        if seen[piece.request] == [2, 1, 3][piece.request] {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let done = generate(&model, &text(), &requests, &twelve(), &mut on_piece).unwrap();
    let lengths: Vec<usize> = done.iter().map(|replies| replies[0].tokens.len()).collect();
    assert_eq!(lengths, [2, 1, 3]);
    assert_eq!(
        model.calls(),
        [
            Call::Begin(3),
            Call::Extend(vec![1, 2, 3]),
            Call::Select(vec![0, 2]),
            Call::Extend(vec![1, 1]),
            Call::Select(vec![1]),
            Call::Extend(vec![1]),
        ]
    );
}

#[test]
fn samples_share_one_reading_of_their_prompt() {
    let model = Scripted::new();
    let options = GenerateOptions {
        samples: 2,
        batch: 5,
        max_new_tokens: 1,
        ..twelve()
    };
    run(&model, &requests(3), &options);
    assert_eq!(
        model.calls(),
        [
            Call::Begin(2),
            Call::Extend(vec![1, 2]),
            Call::Select(vec![0, 0, 1, 1]),
            Call::Begin(1),
            Call::Extend(vec![3]),
            Call::Select(vec![0, 0]),
        ]
    );
}

/// A reply cut short is the beginning of the whole one, and no budget is exceeded.
#[test]
fn every_token_budget_is_kept_and_used() {
    let model = Scripted::new();
    let requests = requests(4);
    let whole = run(&model, &requests, &twelve());
    // 1 + 2 + 3 + 4 tokens of prompts, 4 · 12 generated.
    let all = 58;
    assert_eq!(prompts_and_tokens(&requests, &whole), all);
    for budget in 0..all + 3 {
        for batch in [1, 3, 16] {
            let options = GenerateOptions {
                token_budget: Some(budget),
                batch,
                ..twelve()
            };
            let done = run(&model, &requests, &options);
            let used = prompts_and_tokens(&requests, &done);
            assert!(used <= budget, "{used} of {budget}");
            if budget >= all {
                assert_eq!(done, whole);
            }
            for (found, expected) in done.iter().flatten().zip(whole.iter().flatten()) {
                assert!(expected.tokens.starts_with(&found.tokens));
                assert!(expected.logprobs.starts_with(&found.logprobs));
                let finish = if found.tokens.len() == 12 {
                    FinishReason::Length
                } else {
                    FinishReason::Budget
                };
                assert_eq!(found.finish, finish, "budget {budget}, batch {batch}");
            }
            // What is left does not suffice for the next prompt and a token.
            if used < budget && budget < all {
                let next = done.iter().position(|replies| replies[0].tokens.is_empty());
                let next = next.map(|next| requests[next].tokens.len() + 1);
                assert!(
                    next.is_some_and(|next| used + next > budget),
                    "{used} of {budget}"
                );
            }
        }
    }
}

#[test]
fn a_prompt_read_once_for_each_batch_of_samples_is_counted_as_often() {
    let model = Scripted::new();
    let options = GenerateOptions {
        samples: 4,
        batch: 2,
        max_new_tokens: 1,
        token_budget: Some(3 + 2 + 3 + 1),
        ..twelve()
    };
    let done = run(&model, &requests(3)[2..], &options);
    let lengths: Vec<usize> = done[0].iter().map(|reply| reply.tokens.len()).collect();
    assert_eq!(lengths, [1, 1, 1, 0]);
    assert_eq!(done[0][3].finish, FinishReason::Budget);
    assert_eq!(model.fed(), 6);
}

#[test]
fn no_time_is_no_reply_and_much_time_is_all() {
    let model = Scripted::new();
    let of = |time| GenerateOptions {
        time_budget: Some(time),
        samples: 2,
        ..twelve()
    };
    let none = run(&model, &requests(2), &of(Duration::ZERO));
    assert_eq!(model.fed(), 0);
    for replies in &none {
        assert_eq!(replies.len(), 2);
        for reply in replies {
            assert_eq!(reply.finish, FinishReason::Budget);
            assert_eq!((reply.tokens.len(), reply.text.as_str()), (0, ""));
        }
    }
    let all = run(&model, &requests(2), &of(Duration::MAX));
    assert!(
        all.iter()
            .flatten()
            .all(|reply| reply.finish == FinishReason::Length)
    );
}

/// The clock is looked at before each pass.
#[test]
fn time_that_runs_out_ends_rows_in_progress() {
    struct Slow(Scripted);
    impl LanguageModel for Slow {
        fn vocab_size(&self) -> usize {
            self.0.vocab_size()
        }
        fn next_logits(&self, tokens: &[u32]) -> Result<Array1<f32>> {
            if tokens.len() == 3 {
                std::thread::sleep(Duration::from_millis(20));
            }
            self.0.next_logits(tokens)
        }
    }
    let options = GenerateOptions {
        time_budget: Some(Duration::from_millis(20)),
        ..twelve()
    };
    let done = run(&Slow(Scripted::new()), &requests(1), &options);
    // Three tokens on a machine that is not held up, fewer on one that is, never more.
    assert!(done[0][0].tokens.len() <= 3);
    assert_eq!(done[0][0].finish, FinishReason::Budget);
}

#[test]
fn cancelling_keeps_what_there_is_and_begins_nothing_more() {
    let model = Scripted::new();
    let requests = requests(5);
    let whole = run(&model, &requests, &twelve());
    model.calls();
    let cancel = CancelToken::new();
    let options = GenerateOptions {
        cancel: Some(cancel.clone()),
        batch: 2,
        ..twelve()
    };
    let mut pieces = 0;
    let mut on_piece = |piece: Piece<'_>| {
        pieces += usize::from(piece.request == 2);
        if pieces == 4 {
            cancel.cancel();
        }
        ControlFlow::Continue(())
    };
    let done = generate(&model, &text(), &requests, &options, &mut on_piece).unwrap();
    let lengths: Vec<usize> = done.iter().map(|replies| replies[0].tokens.len()).collect();
    // The step in which it was cancelled is completed.
    assert_eq!(lengths, [12, 12, 4, 4, 0]);
    let finish: Vec<FinishReason> = done.iter().map(|replies| replies[0].finish).collect();
    assert_eq!(finish[..2], [FinishReason::Length; 2]);
    assert_eq!(finish[2..], [FinishReason::Cancelled; 3]);
    for (found, expected) in done.iter().flatten().zip(whole.iter().flatten()) {
        assert!(expected.tokens.starts_with(&found.tokens));
    }
    // Its own reason for ending is worth more than the caller's.
    assert_eq!(done[0], whole[0]);
    // A token that is cancelled stays so.
    model.calls();
    let done = run(&model, &requests, &options);
    assert!(done.iter().flatten().all(|reply| reply.tokens.is_empty()));
    assert_eq!(model.calls(), []);
}

#[test]
fn cancelling_from_another_thread() {
    let cancel = CancelToken::new();
    let options = GenerateOptions {
        cancel: Some(cancel.clone()),
        max_new_tokens: usize::MAX,
        ..twelve()
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    let done = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let mut on_piece = |_: Piece<'_>| {
                let _ = sender.send(());
                ControlFlow::Continue(())
            };
            generate(
                &Scripted::of(300),
                &text(),
                &requests(1),
                &options,
                &mut on_piece,
            )
            .unwrap()
        });
        receiver.recv().unwrap();
        cancel.cancel();
        work.join().unwrap()
    });
    assert_eq!(done[0][0].finish, FinishReason::Cancelled);
    assert!(!done[0][0].tokens.is_empty());
}

#[test]
fn a_conversation_is_answered_within_limits() {
    let (model, text) = (Scripted::new(), text());
    let asked = Conversation::new().user("Hi");
    let prompt = text
        .encode(&Prompt::Chat(asked.clone()))
        .unwrap()
        .ids()
        .len();
    let options = GenerateOptions {
        token_budget: Some(prompt + 2),
        ..twelve()
    };
    let replies = text.reply(&model, &asked, &options).unwrap();
    assert_eq!(replies[0].finish, FinishReason::Budget);
    assert_eq!(
        (replies[0].usage.prompt, replies[0].usage.completion),
        (prompt, 2)
    );

    let mut dialogue = Dialogue::new(&model, &text, Conversation::new()).unwrap();
    let cancelled = GenerateOptions {
        cancel: Some(CancelToken::new()),
        ..twelve()
    };
    cancelled.cancel.as_ref().unwrap().cancel();
    let short = GenerateOptions {
        token_budget: Some(prompt),
        ..twelve()
    };
    for (options, finish) in [
        (cancelled, FinishReason::Cancelled),
        (short, FinishReason::Budget),
    ] {
        let (reply, reused) = dialogue.say("Hi", &options, &mut generate::ignore).unwrap();
        assert_eq!((reply.tokens.len(), reply.finish, reused), (0, finish, 0));
        assert_eq!(dialogue.conversation(), &Conversation::new());
    }
    let (reply, _) = dialogue.say("Hi", &options, &mut generate::ignore).unwrap();
    assert_eq!(
        (reply.tokens.len(), reply.finish),
        (2, FinishReason::Budget)
    );
    assert_eq!(dialogue.conversation().len(), 2);
    // It goes on from there; random tokens need not come back from their text, so only the prompt is sure to be reused.
    let before = dialogue.tokens_read();
    let (_, reused) = dialogue
        .say("Go on", &twelve(), &mut generate::ignore)
        .unwrap();
    assert!((prompt..=before).contains(&reused));
}

#[test]
fn more_samples_than_there_can_be_rows() {
    let options = GenerateOptions {
        samples: usize::MAX,
        token_budget: Some(0),
        ..twelve()
    };
    assert_eq!(
        options.check().unwrap_err().to_string(),
        "samples: expected at most 1048576, found 18446744073709551615"
    );
}

fn interface() -> &'static TextInterface {
    static TEXT: std::sync::OnceLock<TextInterface> = std::sync::OnceLock::new();
    TEXT.get_or_init(text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The rows' own loop, once more as plainly as can be.
    #[test]
    fn greedy_replies_equal_a_hand_written_loop(
        prompts in prop::collection::vec(prop::collection::vec(0..264_u32, 1..6), 1..8),
        batch in 1..6_usize,
        stops in any::<bool>(),
    ) {
        let model = Scripted::new();
        let requests: Vec<Request> = prompts.iter().cloned().map(Request::unnamed).collect();
        let options = GenerateOptions { batch, ignore_stop_tokens: !stops, ..twelve() };
        let done = generate(&model, interface(), &requests, &options, &mut ignore).unwrap();
        let stop_ids = if stops { interface().stop_ids() } else { &[] };
        for (prompt, replies) in prompts.iter().zip(&done) {
            prop_assert_eq!(&replies[0].tokens, &greedy(&model, prompt, stop_ids, 12));
        }
    }
}
