"""Changes to one attention head, for every decoder family: where its query vector and its output can be reached."""

from contextlib import ExitStack, contextmanager
from sys import modules
from unittest.mock import patch

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

ATTENTION = ("self_attn", "self_attention", "attention", "attn")
OUTPUT_PROJECTION = ("o_proj", "out_proj", "c_proj", "dense")


def blocks(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The decoder's list of blocks, whatever the family calls it."""
    count = model.config.num_hidden_layers
    lists = [m for m in model.base_model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    assert len(lists) == 1, f"expected one list of {count} blocks, found {len(lists)}"
    return lists[0]


def attention_of(block: torch.nn.Module) -> torch.nn.Module:
    """The attention of a block; GPT-Neo's sits in a wrapper of the same kind of name, so the innermost counts."""
    return [module for name, module in block.named_modules() if name.rpartition(".")[2] in ATTENTION][-1]


def output_projection(attention: torch.nn.Module) -> torch.nn.Module:
    """What the heads' outputs go through, side by side."""
    found = [child for name, child in attention.named_children() if name in OUTPUT_PROJECTION]
    assert len(found) == 1, f"expected one output projection, found {len(found)}"
    return found[0]


@contextmanager
def scaled_query(attention: torch.nn.Module, head: int, factor: float):
    """Scales the head's query vector where it meets the keys: after every norm and rotary embedding.

    Most families call `eager_attention_forward` of their own file then, GPT-Neo and GPT-J a method `_attn`. Falcon goes
    on in the same function, so there the query is scaled as it leaves the rotary embedding.
    """
    home = modules[type(attention).__module__]

    def scaled(query):  # [batch, head, position, head_dim]
        query = query.clone()
        query[:, head] *= factor
        return query

    if hasattr(home, "eager_attention_forward"):
        plain = home.eager_attention_forward

        def meet(module, query, *args, **kwargs):
            return plain(module, scaled(query) if module is attention else query, *args, **kwargs)

        with patch.object(home, "eager_attention_forward", meet):
            yield
    elif hasattr(attention, "_attn"):
        plain = attention._attn
        with patch.object(attention, "_attn", lambda query, *args, **kwargs: plain(scaled(query), *args, **kwargs)):
            yield
    else:
        plain, inside = home.apply_rotary_pos_emb, []

        def rotate(query, key, *args, **kwargs):
            query, key = plain(query, key, *args, **kwargs)
            return (scaled(query) if inside else query), key

        handles = [
            attention.register_forward_pre_hook(lambda *_: inside.append(True)),
            attention.register_forward_hook(lambda *_: inside.clear()),
        ]
        try:
            with patch.object(home, "apply_rotary_pos_emb", rotate):
                yield
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def scaled_output(attention: torch.nn.Module, head: int, heads: int, factor: float):
    """Scales the head's columns of what enters the output projection."""
    projection = output_projection(attention)
    width = projection.weight.shape[0 if isinstance(projection, Conv1D) else 1] // heads

    def scale(_, args):
        mixed = args[0].clone()
        mixed[..., head * width : (head + 1) * width] *= factor
        return (mixed,)

    handle = projection.register_forward_pre_hook(scale)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def edited_head(model: PreTrainedModel, layer: int, head: int, *, query: float = 1.0, output: float = 1.0):
    """Scales one query head's query vector (after rotary embedding and norm) or its output (before `o_proj`)."""
    attention = attention_of(blocks(model)[layer])
    with ExitStack() as edits:
        if query != 1.0:
            edits.enter_context(scaled_query(attention, head, query))
        if output != 1.0:
            edits.enter_context(scaled_output(attention, head, model.config.num_attention_heads, output))
        yield
