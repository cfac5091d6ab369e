//! What most families call their weights; a family answers for the parts it calls otherwise and leaves the rest to this.

use super::Source;
use crate::spec::{LayerPart, Part};

/// The names of Hugging Face's llama, which most newer families share.
pub(super) fn hf(part: Part) -> Source {
    Source::new(match part {
        Part::Embedding => "model.embed_tokens.weight".to_owned(),
        Part::Positions => "model.embed_positions.weight".to_owned(),
        Part::FinalNorm => "model.norm.weight".to_owned(),
        Part::FinalNormBias => "model.norm.bias".to_owned(),
        Part::Unembedding => "lm_head.weight".to_owned(),
        Part::UnembeddingBias => "lm_head.bias".to_owned(),
        Part::Layer(layer, part) => format!("model.layers.{layer}.{}", hf_layer(part)),
    })
}

fn hf_layer(part: LayerPart) -> &'static str {
    match part {
        LayerPart::AttentionNorm => "input_layernorm.weight",
        LayerPart::AttentionNormBias => "input_layernorm.bias",
        LayerPart::Query => "self_attn.q_proj.weight",
        LayerPart::Key => "self_attn.k_proj.weight",
        LayerPart::Value => "self_attn.v_proj.weight",
        LayerPart::QueryBias => "self_attn.q_proj.bias",
        LayerPart::KeyBias => "self_attn.k_proj.bias",
        LayerPart::ValueBias => "self_attn.v_proj.bias",
        LayerPart::QueryNorm => "self_attn.q_norm.weight",
        LayerPart::QueryNormBias => "self_attn.q_norm.bias",
        LayerPart::KeyNorm => "self_attn.k_norm.weight",
        LayerPart::KeyNormBias => "self_attn.k_norm.bias",
        LayerPart::Output => "self_attn.o_proj.weight",
        LayerPart::OutputBias => "self_attn.o_proj.bias",
        // Llama calls the norm before its MLP after what stands before it; where there are norms after the parts, a family
        // says which is which.
        LayerPart::AttentionPostNorm | LayerPart::MlpNorm => "post_attention_layernorm.weight",
        LayerPart::MlpNormBias => "post_attention_layernorm.bias",
        LayerPart::Gate => "mlp.gate_proj.weight",
        LayerPart::Up => "mlp.up_proj.weight",
        LayerPart::Down => "mlp.down_proj.weight",
        LayerPart::GateBias => "mlp.gate_proj.bias",
        LayerPart::UpBias => "mlp.up_proj.bias",
        LayerPart::DownBias => "mlp.down_proj.bias",
        LayerPart::MlpPostNorm => "post_feedforward_layernorm.weight",
    }
}

/// The names that GPT-2 and those after it share, but for the projections.
pub(super) fn gpt(part: Part) -> Source {
    use LayerPart as L;
    Source::new(match part {
        Part::Embedding => "transformer.wte.weight".to_owned(),
        Part::Positions => "transformer.wpe.weight".to_owned(),
        Part::FinalNorm => "transformer.ln_f.weight".to_owned(),
        Part::FinalNormBias => "transformer.ln_f.bias".to_owned(),
        Part::Layer(layer, L::AttentionNorm) => format!("transformer.h.{layer}.ln_1.weight"),
        Part::Layer(layer, L::AttentionNormBias) => format!("transformer.h.{layer}.ln_1.bias"),
        Part::Layer(layer, L::MlpNorm) => format!("transformer.h.{layer}.ln_2.weight"),
        Part::Layer(layer, L::MlpNormBias) => format!("transformer.h.{layer}.ln_2.bias"),
        _ => return hf(part),
    })
}

/// The names inside a layer of those with one tensor for queries, keys and values (GPT-NeoX, Falcon), whose attention is
/// called `attention`.
pub(super) fn bloom_layer(attention: &str, part: LayerPart) -> String {
    use LayerPart as L;
    let own = match part {
        L::Query | L::Key | L::Value => "query_key_value.weight",
        L::QueryBias | L::KeyBias | L::ValueBias => "query_key_value.bias",
        L::Output => "dense.weight",
        L::OutputBias => "dense.bias",
        L::Up => return "mlp.dense_h_to_4h.weight".to_owned(),
        L::UpBias => return "mlp.dense_h_to_4h.bias".to_owned(),
        L::Down => return "mlp.dense_4h_to_h.weight".to_owned(),
        L::DownBias => return "mlp.dense_4h_to_h.bias".to_owned(),
        _ => return hf_layer(part).to_owned(),
    };
    format!("{attention}.{own}")
}

/// The names of GGUF, the same for every architecture; what differs is which of them are fused or changed.
pub(super) fn gguf(part: Part) -> Source {
    Source::new(match part {
        Part::Embedding => "token_embd.weight".to_owned(),
        Part::Positions => "position_embd.weight".to_owned(),
        Part::FinalNorm => "output_norm.weight".to_owned(),
        Part::FinalNormBias => "output_norm.bias".to_owned(),
        Part::Unembedding => "output.weight".to_owned(),
        Part::UnembeddingBias => "output.bias".to_owned(),
        Part::Layer(layer, part) => format!("blk.{layer}.{}", gguf_layer(part)),
    })
}

fn gguf_layer(part: LayerPart) -> &'static str {
    match part {
        LayerPart::AttentionNorm => "attn_norm.weight",
        LayerPart::AttentionNormBias => "attn_norm.bias",
        LayerPart::Query => "attn_q.weight",
        LayerPart::Key => "attn_k.weight",
        LayerPart::Value => "attn_v.weight",
        LayerPart::QueryBias => "attn_q.bias",
        LayerPart::KeyBias => "attn_k.bias",
        LayerPart::ValueBias => "attn_v.bias",
        LayerPart::QueryNorm => "attn_q_norm.weight",
        LayerPart::QueryNormBias => "attn_q_norm.bias",
        LayerPart::KeyNorm => "attn_k_norm.weight",
        LayerPart::KeyNormBias => "attn_k_norm.bias",
        LayerPart::Output => "attn_output.weight",
        LayerPart::OutputBias => "attn_output.bias",
        LayerPart::AttentionPostNorm => "post_attention_norm.weight",
        LayerPart::MlpNorm => "ffn_norm.weight",
        LayerPart::MlpNormBias => "ffn_norm.bias",
        LayerPart::Gate => "ffn_gate.weight",
        LayerPart::Up => "ffn_up.weight",
        LayerPart::Down => "ffn_down.weight",
        LayerPart::GateBias => "ffn_gate.bias",
        LayerPart::UpBias => "ffn_up.bias",
        LayerPart::DownBias => "ffn_down.bias",
        LayerPart::MlpPostNorm => "post_ffw_norm.weight",
    }
}

/// Queries, keys and values of `kv_heads` groups, each of its query heads, one key head and one value head, in one tensor.
/// (`groups = 1` with all heads in it: first all queries, then all keys, then all values.)
pub(super) fn fused_qkv(
    source: Source,
    part: LayerPart,
    groups: usize,
    query: usize,
    key: usize,
) -> Source {
    let (start, take) = match part {
        LayerPart::Query | LayerPart::QueryBias => (0, query),
        LayerPart::Key | LayerPart::KeyBias => (query, key),
        LayerPart::Value | LayerPart::ValueBias => (query + key, key),
        _ => return source,
    };
    source.rows(super::Rows {
        groups,
        stride: query + 2 * key,
        start,
        take,
    })
}

/// Whether a part belongs to the query, key and value projections.
pub(super) fn is_qkv(part: LayerPart) -> bool {
    use LayerPart as L;
    matches!(
        part,
        L::Query | L::Key | L::Value | L::QueryBias | L::KeyBias | L::ValueBias
    )
}

/// Whether a part of the query, key and value projections is a bias.
pub(super) fn is_bias(part: LayerPart) -> bool {
    use LayerPart as L;
    matches!(part, L::QueryBias | L::KeyBias | L::ValueBias)
}
