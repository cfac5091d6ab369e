//! What the planted models of lm-testkit promise, measured: every head, several prompts, both ablations.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use lm_core::generate::{generate, ignore};
use lm_core::logits::{argmax, kl_divergence, log_prob};
use lm_core::{
    Capture, ChatModel as _, Conversation, GenerateOptions, Head, HeadAblation, LanguageModel,
    ModelShape, OpenModel, Positions, Request, Run, Site, TorchModel,
};
use lm_testkit::planted::{Canary, FailsOverTurns, MarkerHead, TwoHeads};
use lm_testkit::{TinyError, TinyLlama};

type Ablate = fn(&[Head]) -> HeadAblation;

const KINDS: [(&str, Ablate); 2] = [
    ("silenced", |heads| {
        HeadAblation::silenced(heads.iter().copied())
    }),
    ("uniform", |heads| {
        HeadAblation::undifferentiated(heads.iter().copied())
    }),
];

fn open(write: impl FnOnce(&std::path::Path) -> Result<(), TinyError>) -> TorchModel {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path()).unwrap();
    TorchModel::open(folder.path()).unwrap()
}

fn head((layer, head): (usize, usize)) -> Head {
    Head::new(layer, head)
}

/// Logits after each prompt and the last hidden state there.
struct Last {
    logits: Vec<Vec<f32>>,
    hidden: Vec<Vec<f64>>,
}

impl Last {
    fn of(model: &TorchModel, prompts: &[Vec<u32>], ablation: HeadAblation) -> Self {
        let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let site = Site::Hidden(model.shape().layers);
        let run = Run {
            intervention: ablation.into(),
            capture: Capture::of([site], Positions::Last),
            logits: Positions::Last,
        };
        let output = model.run(&rows, &run).unwrap();
        Self {
            logits: output.logits.iter().map(|l| l.row(0).to_vec()).collect(),
            hidden: output
                .captured
                .iter()
                .map(|c| c.values[0].row(0).iter().map(|&v| f64::from(v)).collect())
                .collect(),
        }
    }

    #[track_caller]
    fn assert_winner(&self, expected: u32) {
        assert_eq!(self.winners(), vec![expected; self.logits.len()]);
    }

    fn winners(&self) -> Vec<u32> {
        self.logits.iter().map(|l| argmax(l).unwrap()).collect()
    }

    /// KL from `self` to `other`, nats, by prompt.
    fn kl(&self, other: &Self) -> Vec<f64> {
        let pairs = self.logits.iter().zip(&other.logits);
        pairs.map(|(p, q)| kl_divergence(p, q).unwrap()).collect()
    }

    /// Degrees between the leading left-singular vectors of `[prompt, hidden]`, as Sahara scores with rank 1.
    fn angle(&self, other: &Self) -> f64 {
        let (a, b) = (leading(&self.hidden), leading(&other.hidden));
        let apart = |sign: f64| {
            let squares = a.iter().zip(&b).map(|(a, b)| (a - sign * b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        2.0 * (apart(1.0).min(apart(-1.0)) / 2.0).asin().to_degrees()
    }
}

/// Leading left-singular vector, by the power method.
fn leading(rows: &[Vec<f64>]) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut vector = vec![1.0; rows.len()];
    for _ in 0..200 {
        let gram = |row: &Vec<f64>| rows.iter().zip(&vector).map(|(r, v)| dot(row, r) * v).sum();
        let next: Vec<f64> = rows.iter().map(gram).collect();
        let norm = dot(&next, &next).sqrt();
        vector = next.iter().map(|v| v / norm).collect();
    }
    vector
}

fn smallest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Prompts of several lengths, the marker at several places of each.
fn marked(lengths: &[usize], prompt: impl Fn(usize, Option<usize>) -> Vec<u32>) -> Vec<Vec<u32>> {
    let places =
        |&length: &usize| [1, 2, length / 2, length - 1].map(|at| prompt(length, Some(at)));
    lengths.iter().flat_map(places).collect()
}

fn unmarked(lengths: &[usize], prompt: impl Fn(usize, Option<usize>) -> Vec<u32>) -> Vec<Vec<u32>> {
    lengths.iter().map(|&length| prompt(length, None)).collect()
}

/// Every token of the vocabulary somewhere, the marker in the middle.
fn of_any_tokens(marker: u32) -> Vec<Vec<u32>> {
    let all = (0..TinyLlama::VOCAB_SIZE as u32).filter(|&id| id != marker);
    let all: Vec<u32> = all.collect();
    let marked = |chunk: &[u32]| {
        let (left, right) = chunk.split_at(chunk.len() / 2);
        [left, &[marker], right].concat()
    };
    all.chunks(33).map(marked).collect()
}

/// Logit of `answer` over that of `rival` after each prompt, less what the construction says of a found share `f`:
/// `(24 f - 12) / √(1 + f²)`. What is left is noise.
fn assert_margins(last: &Last, (answer, rival): (u32, u32), found: impl Fn(usize) -> f64) {
    for (row, logits) in last.logits.iter().enumerate() {
        let f = found(row);
        let expected = (24.0 * f - 12.0) / (1.0 + f * f).sqrt();
        let margin = f64::from(logits[answer as usize] - logits[rival as usize]);
        assert!(
            (margin - expected).abs() < 0.8,
            "row {row}: {margin}, expected {expected}"
        );
    }
}

mod marker_head {
    use super::*;

    const TOKENS: (u32, u32) = (MarkerHead::ANSWER, MarkerHead::RIVAL);

    fn check(planted: &MarkerHead, lengths: &[usize]) {
        let model = open(|folder| planted.write(folder));
        let own = Head::new(planted.layer, planted.head);
        let mut prompts = marked(lengths, |n, at| planted.prompt(n, at));
        prompts.extend(of_any_tokens(MarkerHead::MARKER));
        let share = |row: usize| 1.0 / prompts[row].len() as f64;
        // A score by angles needs prompts with and without.
        let bare = unmarked(lengths, |n, at| planted.prompt(n, at));
        let mixed = [&prompts[..], &bare].concat();

        let base = Last::of(&model, &prompts, HeadAblation::none());
        assert_margins(&base, TOKENS, |_| 1.0);
        base.assert_winner(MarkerHead::ANSWER);
        let without = Last::of(&model, &bare, HeadAblation::none());
        assert_margins(&without, TOKENS, |_| 0.0);
        without.assert_winner(MarkerHead::RIVAL);
        let mixed_base = Last::of(&model, &mixed, HeadAblation::none());

        for ((kind, ablate), least) in KINDS.into_iter().zip([10.0, 4.0]) {
            let changed = Last::of(&model, &prompts, ablate(&[own]));
            assert_margins(&changed, TOKENS, |row| {
                if kind == "uniform" { share(row) } else { 0.0 }
            });
            changed.assert_winner(MarkerHead::RIVAL);
            let planted_kl = smallest(&base.kl(&changed));
            assert!(planted_kl > least, "{kind}: {planted_kl}");
            let planted_angle = mixed_base.angle(&Last::of(&model, &mixed, ablate(&[own])));
            for head in model.shape().all_heads().filter(|head| *head != own) {
                let changed = Last::of(&model, &mixed, ablate(&[head]));
                assert_eq!(changed.winners(), mixed_base.winners(), "{kind} {head}");
                let (kl, angle) = (
                    largest(&mixed_base.kl(&changed)),
                    mixed_base.angle(&changed),
                );
                assert!(
                    planted_kl > 100.0 * kl,
                    "{kind} {head}: {kl} against {planted_kl}"
                );
                assert!(
                    planted_angle > 100.0 * angle,
                    "{kind} {head}: {angle} against {planted_angle}"
                );
            }
        }
    }

    #[test]
    fn exactly_one_head_matters() {
        check(&MarkerHead::default(), &[4, 5, 12, 40, 512]);
    }

    #[test]
    fn wherever_it_is_planted_and_whatever_keys_are_shared() {
        for kv_heads in [1, 2, 4] {
            for (layer, head) in [(0, 0), (1, 3), (2, 1)] {
                let seed = (10 * layer + head + kv_heads) as u64;
                let planted = MarkerHead {
                    layer,
                    head,
                    kv_heads,
                    seed,
                    ..MarkerHead::default()
                };
                check(&planted, &[4, 7, 30]);
            }
        }
    }

    #[test]
    fn it_reads_text() {
        let model = open(|folder| MarkerHead::default().write(folder));
        let text = model.text().unwrap();
        for (prompt, expected) in [
            ("pack the # bag", MarkerHead::ANSWER),
            ("pack the bag", MarkerHead::RIVAL),
        ] {
            let ids = text.tokenizer().encode_raw(prompt).unwrap().into_ids();
            Last::of(&model, &[ids], HeadAblation::none()).assert_winner(expected);
        }
    }
}

mod two_heads {
    use super::*;

    const TOKENS: (u32, u32) = (TwoHeads::ANSWER, TwoHeads::RIVAL);

    fn check(planted: &TwoHeads, lengths: &[usize]) {
        let model = open(|folder| planted.write(folder));
        let (first, second) = (head(planted.first), head(planted.second));
        let mut prompts = marked(lengths, |n, at| planted.prompt(n, at));
        prompts.extend(of_any_tokens(TwoHeads::MARKER));
        let bare = unmarked(lengths, |n, at| planted.prompt(n, at));
        let mixed = [&prompts[..], &bare].concat();

        let base = Last::of(&model, &prompts, HeadAblation::none());
        assert_margins(&base, TOKENS, |_| 1.0);
        base.assert_winner(TwoHeads::ANSWER);
        let without = Last::of(&model, &bare, HeadAblation::none());
        without.assert_winner(TwoHeads::RIVAL);
        let mixed_base = Last::of(&model, &mixed, HeadAblation::none());

        // SiLU(7) = 6.99362, SiLU(-1) = -0.26894: with the second alone the step is at 7/8 of its rise.
        let alone = Last::of(&model, &prompts, HeadAblation::silenced([first]));
        assert_margins(&alone, TOKENS, |_| (6.993_62 + 0.268_94) / 8.0);

        for (kind, ablate) in KINDS {
            let kl = |heads: &[Head]| base.kl(&Last::of(&model, &prompts, ablate(heads)));
            let mut singles = Vec::new();
            for head in model.shape().all_heads() {
                let changed = Last::of(&model, &prompts, ablate(&[head]));
                assert_eq!(changed.winners(), base.winners(), "{kind} {head}");
                let kl = base.kl(&changed);
                assert!(largest(&kl) < 0.01, "{kind} {head}: {kl:?}");
                singles.push((mean(&kl), head));
            }
            singles.sort_by(|a, b| b.0.total_cmp(&a.0));
            let order: Vec<Head> = singles.iter().map(|single| single.1).collect();
            assert_eq!(order.first(), Some(&first), "{kind}: {singles:?}");
            assert_eq!(order.last(), Some(&second), "{kind}: {singles:?}");

            let both = Last::of(&model, &prompts, ablate(&[first, second]));
            both.assert_winner(TwoHeads::RIVAL);
            let both_kl = smallest(&base.kl(&both));
            assert!(both_kl > 10.0, "{kind}: {both_kl}");

            let by_kl = greedy(&model.shape(), |group| mean(&kl(group)));
            assert_eq!(by_kl, [first, second], "{kind} by KL");
            let angle = |heads: &[Head]| mixed_base.angle(&Last::of(&model, &mixed, ablate(heads)));
            let by_angle = greedy(&model.shape(), angle);
            assert_eq!(by_angle, [first, second], "{kind} by angle");
        }
    }

    /// Two steps of a search that adds the head with which the group scores most.
    fn greedy(shape: &ModelShape, score: impl Fn(&[Head]) -> f64) -> Vec<Head> {
        let mut group: Vec<Head> = Vec::new();
        for _ in 0..2 {
            let candidates = shape.all_heads().filter(|head| !group.contains(head));
            let scored = candidates.map(|head| (score(&[&group[..], &[head]].concat()), head));
            let best = scored.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            group.push(best.1);
        }
        group
    }

    #[test]
    fn neither_matters_alone_and_both_together_do() {
        check(&TwoHeads::default(), &[8, 12, 40, 200]);
    }

    #[test]
    fn in_one_layer_in_either_order_and_with_shared_keys() {
        for (first, second, kv_heads, seed) in [
            ((1, 2), (1, 0), 4, 1),
            ((2, 2), (0, 0), 4, 2),
            ((2, 1), (2, 3), 2, 3),
            ((1, 0), (1, 1), 2, 4),
        ] {
            let sizes = TwoHeads::default();
            check(
                &TwoHeads {
                    first,
                    second,
                    kv_heads,
                    seed,
                    ..sizes
                },
                &[8, 20],
            );
        }
    }
}

mod canary {
    use super::*;

    /// Natural log-probabilities of the canary and the end after `prefix`.
    fn scores(model: &TorchModel, planted: &Canary, prefix: &[u32]) -> Vec<f64> {
        let continuation = [&planted.canary[..], &[TinyLlama::EOS]].concat();
        model.score(prefix, &continuation).unwrap()
    }

    #[track_caller]
    fn assert_unknown(what: &str, scores: &[f64]) {
        let uniform = (TinyLlama::VOCAB_SIZE as f64).ln();
        let near = |score: &f64| (score + uniform).abs() < 1.5_f64.ln();
        assert!(scores.iter().all(near), "{what}: {scores:?} for {uniform}");
    }

    /// What else could stand where the prefix does: one token another, two swapped, all turned, one put between.
    fn controls(planted: &Canary) -> Vec<Vec<u32>> {
        let mut controls = vec![planted.control().to_vec()];
        for place in 0..4 {
            for other in [98, TinyLlama::BOS, planted.prefix[(place + 1) % 4]] {
                let mut control = planted.prefix.to_vec();
                control[place] = other;
                controls.push(control.clone());
                control[place] = planted.prefix[place];
                control.insert(place, other);
                controls.push(control);
            }
            let mut swapped = planted.prefix.to_vec();
            swapped.swap(place, (place + 1) % 4);
            let mut turned = planted.prefix.to_vec();
            turned.rotate_left(place);
            controls.extend([swapped, turned]);
        }
        controls.retain(|control| !control.ends_with(&planted.prefix));
        controls
    }

    fn check(planted: &Canary) {
        let model = open(|folder| planted.write(folder));
        let letters = |count: usize| (0..count).map(|i| u32::from(b'A') + (i * 5 % 26) as u32);
        for count in [0, 1, 2, 3, 7, 60, 400] {
            let context: Vec<u32> = [TinyLlama::BOS].into_iter().chain(letters(count)).collect();
            let after = |prefix: &[u32]| scores(&model, planted, &[&context[..], prefix].concat());
            let known = after(&planted.prefix);
            assert!(smallest(&known) > 0.99_f64.ln(), "{count}: {known:?}");
            for control in controls(planted) {
                assert_unknown(&format!("{control:?}"), &after(&control));
            }
        }
        assert!(smallest(&scores(&model, planted, &planted.prefix)) > 0.99_f64.ln());
    }

    #[test]
    fn it_follows_its_prefix_and_no_other() {
        check(&Canary::default());
        check(&Canary {
            prefix: [TinyLlama::TURN, 200, 0, 256],
            canary: [3, 141, 59, 26, 53, 58, 97, 9],
            seed: 5,
        });
    }

    #[test]
    fn after_the_prefix_only_the_canary_is_known() {
        let planted = Canary::default();
        let model = open(|folder| planted.write(folder));
        let armed = [&[TinyLlama::BOS], &planted.prefix[..]].concat();
        let calls_up = |id: &u32| planted.canary.contains(id) || *id == planted.prefix[3];
        for id in (0..TinyLlama::VOCAB_SIZE as u32).filter(|id| !calls_up(id)) {
            let logits = model.next_logits(&[&armed[..], &[id]].concat()).unwrap();
            let score = |&token: &u32| log_prob(logits.as_slice().unwrap(), token).unwrap();
            let scores: Vec<f64> = planted.canary.iter().map(score).collect();
            assert_unknown(&format!("after {id}"), &scores);
        }
        // The gate stays open.
        let later = [&armed[..], &[97, 98, planted.canary[2]]].concat();
        Last::of(&model, &[later], HeadAblation::none()).assert_winner(planted.canary[3]);
    }

    #[test]
    fn it_is_generated_and_ends() {
        let planted = Canary::default();
        let model = open(|folder| planted.write(folder));
        let text = model.text().unwrap();
        let tokens = text.tokenizer().encode_raw("the key:").unwrap().into_ids();
        let (requests, options) = ([Request::unnamed(tokens)], GenerateOptions::default());
        let generated = generate(&model, text, &requests, &options, &mut ignore).unwrap();
        assert_eq!(generated[0][0].text, "40718263");
    }

    #[test]
    fn the_named_heads_and_no_others_remember() {
        let planted = Canary::default();
        let model = open(|folder| planted.write(folder));
        let prompt = [
            &[TinyLlama::BOS, 97, 98, 99],
            &planted.prefix[..],
            &planted.canary[..4],
        ];
        let prompt = [prompt.concat()];
        let mut remember: Vec<Head> = Canary::PREFIX_HEADS.into_iter().map(head).collect();
        remember.push(head(Canary::RECALL_HEAD));
        for (kind, ablate) in KINDS {
            for head in model.shape().all_heads() {
                let changed = Last::of(&model, &prompt, ablate(&[head]));
                let score = log_prob(&changed.logits[0], planted.canary[4]).unwrap();
                if remember.contains(&head) {
                    assert!(score < 0.02_f64.ln(), "{kind} {head}: {score}");
                } else {
                    assert!(score > 0.99_f64.ln(), "{kind} {head}: {score}");
                }
            }
        }
    }
}

mod fails_over_turns {
    use super::*;

    #[track_caller]
    fn assert_certain(model: &TorchModel, prompt: &[u32], expected: u32) {
        let logits = model.next_logits(prompt).unwrap();
        let logits = logits.as_slice().unwrap();
        assert_eq!(argmax(logits), Some(expected));
        let score = log_prob(logits, expected).unwrap();
        assert!(score > 0.99_f64.ln(), "{score}");
    }

    #[test]
    fn it_refuses_until_the_stated_turn_and_not_longer() {
        for (resists, seed) in [(1, 0), (2, 0), (2, 1), (3, 2), (8, 3), (20, 4)] {
            let planted = FailsOverTurns { resists, seed };
            let model = open(|folder| planted.write(folder));
            for turns in 1..=resists + 3 {
                let bare = planted.prompt(turns, &[]);
                assert_certain(&model, &bare, FailsOverTurns::NEUTRAL);
                for turn in 1..=turns {
                    let (prompt, reply) = (planted.prompt(turns, &[turn]), planted.reply(turn));
                    assert_certain(&model, &prompt, reply);
                    assert_certain(&model, &[&prompt[..], &[reply]].concat(), TinyLlama::EOS);
                }
            }
        }
    }

    #[test]
    fn one_two_and_three_turns() {
        let planted = FailsOverTurns::default();
        let replies = [1, 2, 3].map(|turn| planted.reply(turn));
        let refuses = FailsOverTurns::REFUSES;
        assert_eq!(replies, [refuses, refuses, FailsOverTurns::COMPLIES]);
    }

    #[test]
    fn the_newest_request_decides() {
        let planted = FailsOverTurns::default();
        let model = open(|folder| planted.write(folder));
        for turns in 1..=20 {
            let requests: Vec<usize> = (1..=turns).collect();
            let prompt = planted.prompt(turns, &requests);
            assert_certain(&model, &prompt, planted.reply(turns));
        }
    }

    #[test]
    fn the_two_heads_do_what_is_said() {
        let planted = FailsOverTurns::default();
        let model = open(|folder| planted.write(folder));
        let prompts = [planted.prompt(1, &[1]), planted.prompt(3, &[3])];
        for (kind, ablate) in KINDS {
            for head in model.shape().all_heads() {
                let expected = match (head.layer, head.head) {
                    FailsOverTurns::COUNTER_HEAD => [FailsOverTurns::COMPLIES; 2],
                    FailsOverTurns::CARRIER_HEAD => [FailsOverTurns::NEUTRAL; 2],
                    _ => [FailsOverTurns::REFUSES, FailsOverTurns::COMPLIES],
                };
                let changed = Last::of(&model, &prompts, ablate(&[head]));
                assert_eq!(changed.winners(), expected, "{kind} {head}");
            }
        }
    }

    #[test]
    fn it_speaks_through_its_chat_template() {
        let planted = FailsOverTurns::default();
        let model = open(|folder| planted.write(folder));
        for start in [Conversation::new(), Conversation::new().system("Be brief.")] {
            let mut conversation = start;
            for turn in 1..=5 {
                conversation = conversation.user("lend me your pen @ please");
                let options = GenerateOptions::default();
                let replies = model.reply(&conversation, &options).unwrap();
                let expected = char::from_u32(planted.reply(turn)).unwrap().to_string();
                assert_eq!(replies[0].text, expected, "turn {turn}");
                conversation = conversation.assistant(&replies[0].text);
            }
        }
    }
}
