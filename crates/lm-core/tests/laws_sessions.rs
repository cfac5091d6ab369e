//! Laws of the decoder that hold whatever the weights are: rows do not see each other, a prompt may come in parts, sessions
//! equal the plain recomputation, and ablations are what they say and nothing else.
//!
//! No reference numbers: each law compares two ways to one result.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use std::sync::OnceLock;

use lm_core::{
    AblationKind, Capture, Checkpoint, Error, Generation, Head, HeadAblation, Intervened,
    LanguageModel, OpenModel, PlainSession, Positions, Run, RunOutput, Session, Site,
    TextInterface, TorchModel,
};
use lm_testkit::{TinyLlama, TinyModel, Tolerance, assert_close};
use ndarray::Array2;
use proptest::prelude::*;

/// Short, so that random sequences run into it.
const CONTEXT: usize = 24;

fn sizes() -> TinyLlama {
    TinyLlama {
        context: CONTEXT,
        ..TinyLlama::default()
    }
}

fn open(model: &TinyModel) -> TorchModel {
    let folder = tempfile::tempdir().unwrap();
    model.write(folder.path()).unwrap();
    // The files stay mapped after they are removed.
    TorchModel::open(folder.path()).unwrap()
}

/// One model for all tests: it is immutable, and they run side by side.
fn model() -> &'static TorchModel {
    static MODEL: OnceLock<TorchModel> = OnceLock::new();
    MODEL.get_or_init(|| open(&sizes().build()))
}

fn heads() -> Vec<Head> {
    model().shape().all_heads().collect()
}

fn same(what: &str, found: &Array2<f32>, expected: &Array2<f32>) {
    assert_eq!(found.dim(), expected.dim(), "{what}");
    assert_close(
        what,
        found.as_standard_layout().as_slice().unwrap(),
        expected.as_standard_layout().as_slice().unwrap(),
        Tolerance::TWO_WAYS,
    );
}

fn bits(values: &Array2<f32>) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Everything a run can return.
fn everything(model: &TorchModel, prompts: &[&[u32]], ablation: HeadAblation) -> RunOutput {
    let mut capture = Capture::hidden_states(model.shape().layers, Positions::All);
    capture.sites.push(Site::FinalNorm);
    let run = Run {
        intervention: ablation.into(),
        capture,
        logits: Positions::All,
    };
    model.run(prompts, &run).unwrap()
}

/// Logits and states of a run as bits.
fn all_bits(output: &RunOutput) -> Vec<Vec<u32>> {
    let states = output.captured.iter().flat_map(|row| &row.values);
    output.logits.iter().chain(states).map(bits).collect()
}

const PROMPTS: [&[u32]; 3] = [
    &[260, 72, 101, 108, 108, 111, 33],
    &[260, 1],
    &[260, 200, 3, 77, 77, 77, 12, 250, 9, 41, 0],
];

fn token() -> impl Strategy<Value = u32> {
    0..TinyLlama::VOCAB_SIZE as u32
}

fn tokens(most: usize) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(token(), 1..=most)
}

/// What may be done to a session. Numbers are taken modulo what the session has when it is done.
#[derive(Clone, Debug)]
enum Action {
    /// A chunk for each row; there are more chunks than rows ever are.
    Extend(Vec<Vec<u32>>),
    Select(Vec<usize>),
    Rewind(Vec<usize>),
}

const MOST_ROWS: usize = 4;

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => prop::collection::vec(tokens(6), MOST_ROWS).prop_map(Action::Extend),
        1 => prop::collection::vec(0..MOST_ROWS, 1..=MOST_ROWS).prop_map(Action::Select),
        1 => prop::collection::vec(0..=CONTEXT, MOST_ROWS).prop_map(Action::Rewind),
    ]
}

fn act(session: &mut dyn Session, action: &Action) -> Result<Option<Array2<f32>>, Error> {
    let rows = session.rows();
    match action {
        Action::Extend(chunks) => {
            let chunks: Vec<&[u32]> = chunks.iter().take(rows).map(Vec::as_slice).collect();
            session.extend(&chunks).map(Some)
        }
        Action::Select(picked) => {
            let picked: Vec<usize> = picked.iter().map(|row| row % rows).collect();
            session.select(&picked).map(|()| None)
        }
        Action::Rewind(lengths) => {
            let lengths: Vec<usize> = lengths
                .iter()
                .take(rows)
                .enumerate()
                .map(|(row, length)| length % (session.len(row) + 1))
                .collect();
            session.rewind(&lengths).map(|()| None)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_row_alone_equals_the_row_in_a_batch(prompts in prop::collection::vec(tokens(CONTEXT), 1..=5)) {
        let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let run = model().run(&rows, &Run::default()).unwrap();
        let session = model().begin(rows.len()).unwrap().extend(&rows).unwrap();
        for (row, prompt) in rows.iter().enumerate() {
            let alone = model().next_logits(prompt).unwrap();
            let alone = alone.as_slice().unwrap();
            assert_close(&format!("run, row {row}"), run.logits[row].as_slice().unwrap(), alone, Tolerance::TWO_WAYS);
            let session = session.row(row);
            assert_close(&format!("session, row {row}"), session.as_slice().unwrap(), alone, Tolerance::TWO_WAYS);
        }
    }

    #[test]
    fn a_prompt_in_parts_equals_the_whole(parts in prop::collection::vec(tokens(6), 1..=4)) {
        let whole = model().next_logits(&parts.concat()).unwrap();
        let mut session = model().begin(1).unwrap();
        let mut last = Array2::zeros((0, 0));
        for part in &parts {
            last = session.extend(&[part]).unwrap();
        }
        assert_close("in parts", last.as_slice().unwrap(), whole.as_slice().unwrap(), Tolerance::TWO_WAYS);
    }

    /// The oracle keeps token lists and computes every row from its beginning.
    #[test]
    fn a_session_equals_the_plain_recomputation(
        rows in 1..=MOST_ROWS,
        actions in prop::collection::vec(action(), 1..10),
        ablated in prop::option::of(prop::sample::select(heads())),
    ) {
        let ablation = HeadAblation::silenced(ablated);
        let view = model().ablated(ablation.clone()).unwrap();
        let mut fast = model().begin_ablated(rows, &ablation).unwrap();
        let mut plain = PlainSession::new(&view, rows).unwrap();
        for (step, action) in actions.iter().enumerate() {
            let what = format!("step {step}: {action:?}");
            match (act(fast.as_mut(), action), act(&mut plain, action)) {
                (Ok(Some(found)), Ok(Some(expected))) => same(&what, &found, &expected),
                (Ok(None), Ok(None)) => {}
                (Err(found), Err(expected)) => prop_assert_eq!(found.to_string(), expected.to_string()),
                (found, expected) => prop_assert!(false, "{}: {:?} against {:?}", what, found, expected),
            }
            prop_assert_eq!(fast.rows(), plain.rows());
            for row in 0..plain.rows() {
                prop_assert_eq!(fast.len(row), plain.len(row), "{}, row {}", what, row);
            }
            prop_assert_eq!(fast.is_empty(), plain.is_empty());
        }
    }
}

/// A factor of 1 goes through the whole machinery of an ablation and must come out as nothing.
#[test]
fn an_ablation_of_nothing_changes_no_bit() {
    let plain = all_bits(&everything(model(), &PROMPTS, HeadAblation::none()));
    let ones = |kind: AblationKind| {
        heads()
            .into_iter()
            .fold(HeadAblation::none(), |all, head| all.with(head, kind))
    };
    for (what, ablation) in [
        ("SC 1", ones(AblationKind::Contribution { factor: 1.0 })),
        (
            "UA 1",
            ones(AblationKind::Undifferentiated { epsilon: 1.0 }),
        ),
    ] {
        assert_eq!(
            all_bits(&everything(model(), &PROMPTS, ablation)),
            plain,
            "{what}"
        );
    }
    let session = |mut session: Box<dyn Session>| bits(&session.extend(&PROMPTS).unwrap());
    let none = HeadAblation::none();
    let expected = session(model().begin(3).unwrap());
    assert_eq!(session(model().begin_ablated(3, &none).unwrap()), expected);
    // Through a trait object, as a method takes it that knows no engine.
    let open: &dyn OpenModel = model();
    let view: &'static _ = Box::leak(Box::new(Intervened::new(open, none).unwrap()));
    assert_eq!(session(view.begin(3).unwrap()), expected);
}

/// The model with `name` of the head's layer changed in place: `(row, column, width of a row, value)`.
fn edited(layer: usize, name: &str, change: impl Fn(usize, usize, &mut f32)) -> TorchModel {
    let mut model = sizes().build();
    let tensor = model.tensor_mut(&format!("model.layers.{layer}.self_attn.{name}.weight"));
    let width = tensor.shape[1];
    for (index, value) in tensor.values.iter_mut().enumerate() {
        change(index / width, index % width, value);
    }
    open(&model)
}

/// `o_proj` joins the heads by its columns, so a head's contribution scales with them.
#[test]
fn scaling_a_contribution_equals_scaling_its_columns_of_the_output_projection() {
    let dim = model().shape().head_dim;
    for head in heads() {
        for factor in [0.0, -0.5, 3.0] {
            let baked = edited(head.layer, "o_proj", |_, column, value| {
                if column / dim == head.head {
                    *value *= factor;
                }
            });
            let kind = AblationKind::Contribution { factor };
            let found = everything(model(), &PROMPTS, HeadAblation::none().with(head, kind));
            let expected = everything(&baked, &PROMPTS, HeadAblation::none());
            for row in 0..PROMPTS.len() {
                let what = format!("head {head} times {factor}, row {row}");
                same(&what, &found.logits[row], &expected.logits[row]);
            }
        }
    }
}

/// Without bias and norm, scaling a query equals scaling the rows of `q_proj` that make it.
#[test]
fn undifferentiated_attention_equals_scaling_its_rows_of_the_query_projection() {
    let dim = model().shape().head_dim;
    for head in heads() {
        for epsilon in [0.0, 1e-5, 0.5] {
            let baked = edited(head.layer, "q_proj", |row, _, value| {
                if row / dim == head.head {
                    *value *= epsilon;
                }
            });
            let kind = AblationKind::Undifferentiated { epsilon };
            let found = everything(model(), &PROMPTS, HeadAblation::none().with(head, kind));
            let expected = everything(&baked, &PROMPTS, HeadAblation::none());
            for row in 0..PROMPTS.len() {
                let what = format!("head {head} at {epsilon}, row {row}");
                same(&what, &found.logits[row], &expected.logits[row]);
            }
        }
    }
}

/// The first position sees only itself: however a query is scaled, its attention is all there.
#[test]
fn undifferentiated_attention_leaves_the_first_position_as_it_is() {
    let first = |output: &RunOutput| -> Vec<Vec<u32>> {
        let states = output.captured[0].values.iter();
        states
            .chain(&output.logits[..1])
            .map(|values| values.row(0).iter().map(|value| value.to_bits()).collect())
            .collect()
    };
    let prompt = [PROMPTS[2]];
    let plain = everything(model(), &prompt, HeadAblation::none());
    for head in heads() {
        let ablated = everything(model(), &prompt, HeadAblation::undifferentiated([head]));
        assert_eq!(first(&ablated), first(&plain), "head {head}");
        // The other positions do change.
        assert_ne!(all_bits(&ablated), all_bits(&plain), "head {head}");
    }
}

/// An ablation that hits nothing would look like a head without effect.
#[test]
fn every_heads_ablation_bites_and_leaves_nothing_behind() {
    let plain = everything(model(), &PROMPTS, HeadAblation::none());
    let mut session = model().begin(3).unwrap();
    let session_plain = session.extend(&PROMPTS).unwrap();
    for head in heads() {
        for ablation in [
            HeadAblation::silenced([head]),
            HeadAblation::undifferentiated([head]),
        ] {
            let ablated = everything(model(), &PROMPTS, ablation.clone());
            for row in [0, 2] {
                let largest = (&ablated.logits[row] - &plain.logits[row])
                    .iter()
                    .fold(0.0_f32, |most, difference| most.max(difference.abs()));
                assert!(largest > 1e-2, "{ablation:?}, row {row}: {largest}");
            }
            // States before the head are untouched to the last bit; those after it are not.
            for (states, untouched) in ablated.captured.iter().zip(&plain.captured) {
                for before in 0..=head.layer {
                    assert_eq!(
                        bits(&states.values[before]),
                        bits(&untouched.values[before]),
                        "{ablation:?}, hidden {before}"
                    );
                }
            }
            assert_ne!(
                bits(&ablated.captured[0].values[head.layer + 1]),
                bits(&plain.captured[0].values[head.layer + 1])
            );
        }
        let again = everything(model(), &PROMPTS, HeadAblation::none());
        assert_eq!(all_bits(&again), all_bits(&plain), "after head {head}");
    }
    session.rewind(&[0, 0, 0]).unwrap();
    assert_eq!(
        bits(&session.extend(&PROMPTS).unwrap()),
        bits(&session_plain)
    );
}

#[test]
fn a_sweep_equals_one_run_an_ablation() {
    let ablations: Vec<HeadAblation> = heads()
        .into_iter()
        .flat_map(|head| {
            [
                HeadAblation::silenced([head]),
                HeadAblation::undifferentiated([head]),
            ]
        })
        .chain([HeadAblation::none(), HeadAblation::silenced(heads())])
        .collect();
    let mut seen = Vec::new();
    model()
        .sweep(&PROMPTS, &ablations, &mut |index, logits| {
            seen.push(index);
            let run = Run {
                intervention: ablations[index].clone().into(),
                ..Run::default()
            };
            let expected = model().run(&PROMPTS, &run)?;
            for (row, expected) in expected.logits.iter().enumerate() {
                let found = logits.row(row).insert_axis(ndarray::Axis(0)).to_owned();
                same(
                    &format!("{:?}, row {row}", ablations[index]),
                    &found,
                    expected,
                );
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, (0..ablations.len()).collect::<Vec<_>>());
}

#[test]
fn what_threads_may_share_and_send() {
    fn shared<T: Send + Sync + ?Sized>() {}
    fn sent<T: Send + ?Sized>() {}
    shared::<TorchModel>();
    shared::<Checkpoint>();
    shared::<TextInterface>();
    shared::<HeadAblation>();
    shared::<Run>();
    shared::<RunOutput>();
    shared::<Generation>();
    shared::<Error>();
    shared::<lm_core::chat::ChatTemplate>();
    shared::<lm_core::tokenizer::Tokenizer>();
    shared::<dyn OpenModel>();
    sent::<Box<dyn Session>>();
    sent::<lm_core::Dialogue<'static>>();
}

/// Four threads on one model, each with sessions and ablations of its own, get to the bit what one alone gets.
#[test]
fn threads_that_share_a_model_do_not_disturb_each_other() {
    let work = |head: Head| {
        let mut found = Vec::new();
        for ablation in [HeadAblation::none(), HeadAblation::silenced([head])] {
            found.extend(all_bits(&everything(model(), &PROMPTS, ablation.clone())));
            let mut session = model().begin_ablated(1, &ablation).unwrap();
            for &token in PROMPTS[2] {
                found.push(bits(&session.append(&[token]).unwrap()));
            }
        }
        found
    };
    let heads = &heads()[..4];
    let alone: Vec<_> = heads.iter().map(|&head| work(head)).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = heads
            .iter()
            .map(|&head| scope.spawn(move || (0..5).map(|_| work(head)).collect::<Vec<_>>()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for (runs, alone) in together.iter().zip(&alone) {
        for run in runs {
            assert!(run == alone, "a thread's numbers depend on its neighbours");
        }
    }
}

#[test]
fn a_session_may_move_to_another_thread() {
    let expected = model().next_logits(PROMPTS[0]).unwrap();
    let mut session = model().begin(1).unwrap();
    session.extend(&[&PROMPTS[0][..3]]).unwrap();
    let found = std::thread::scope(|scope| {
        scope
            .spawn(move || session.extend(&[&PROMPTS[0][3..]]).unwrap())
            .join()
            .unwrap()
    });
    assert_close(
        "moved",
        found.as_slice().unwrap(),
        expected.as_slice().unwrap(),
        Tolerance::TWO_WAYS,
    );
}
