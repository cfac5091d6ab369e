//! Text to tokens and back.

use criterion::{Criterion, Throughput};
use lm_core::{Checkpoint, Conversation, Message, Prompt, Role, TextInterface};

use crate::{Failure, Named};

/// About 2,000 words of everyday prose.
fn prose() -> String {
    let sentence = "The library opens at nine, and whoever comes early waits under the old chestnut by the door; \
                    on rainy days (there are many) someone inside puts the kettle on. ";
    sentence.repeat(70)
}

pub(crate) fn benches(criterion: &mut Criterion, models: &[Named]) -> Result<(), Failure> {
    let prose = prose();
    for model in models {
        let text = TextInterface::open(&Checkpoint::open(&model.path)?)?;
        let tokenizer = text.tokenizer();
        let ids = tokenizer.encode_raw(&prose)?.into_ids();
        let chat = Prompt::Chat(
            Conversation::default()
                .with(Message::new(
                    Role::User,
                    "What grows well on a shady balcony?",
                ))
                .with(Message::new(Role::Assistant, prose.as_str()))
                .with(Message::new(Role::User, "And in a dry one?")),
        );
        text.encode(&chat)?;
        tokenizer.decode(&ids, true)?;

        let mut group = criterion.benchmark_group("tokenizer");
        group.throughput(Throughput::Bytes(prose.len() as u64));
        group.bench_function(format!("encode/{}", model.name), |bench| {
            bench.iter(|| tokenizer.encode_raw(&prose));
        });
        group.bench_function(
            format!("chat template and encode/{}", model.name),
            |bench| {
                bench.iter(|| text.encode(&chat));
            },
        );
        group.bench_function(format!("decode/{}", model.name), |bench| {
            bench.iter(|| tokenizer.decode(&ids, true));
        });
        group.bench_function(format!("decode one by one/{}", model.name), |bench| {
            bench.iter(|| {
                let mut stream = tokenizer.decode_stream(true);
                let mut length = 0;
                for &id in &ids {
                    length += stream.push(id)?.len();
                }
                Ok::<_, lm_core::tokenizer::TokenizerError>(length)
            });
        });
        group.finish();
    }
    Ok(())
}
