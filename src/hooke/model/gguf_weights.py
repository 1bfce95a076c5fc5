"""From a GGUF file's tensors to the parameters of a transformers model: each tensor has one place, each place a tensor.

What llama.cpp's converter does to a tensor is undone here: it reorders the rows of Llama's queries and keys, adds one
to Gemma's norms, and stores GPT-2's matrices the usual way round. The adapter table says which module is which.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hooke.errors import visible
from hooke.model.families import Family, family_of
from hooke.model.gguf_file import GgufFile, missing, unsupported
from hooke.model.gguf_rope import FREQS, LONG, SHORT

if TYPE_CHECKING:
    from torch import Tensor, nn


def parameters_of(file: GgufFile, model: nn.Module) -> dict[str, Tensor]:
    """The model's whole state in fp32, dequantised.

    model: built from the file's configuration; its own numbers are not looked at (they may be on the meta device).
    Raises HookeError naming the first tensor that has no place, fits none, or is not in the file.
    """
    import torch

    config: Any = model.config
    family = family_of(config)
    places = _places(family, model)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    head = f"{family.unembed}.weight"
    if config.tie_word_embeddings:
        wanted.pop(head, None)
    state: dict[str, Tensor] = {}
    for name in file.tensors:
        place = places.get(name)
        if name in (FREQS, LONG, SHORT) or (name == "output.weight" and config.tie_word_embeddings):
            continue  # in the configuration; the embedding once more
        if place is None or place not in wanted:
            raise unsupported(file, name, f"a tensor that a {family.name} has no place for")
        value = torch.from_numpy(_undone(file, name, config)).contiguous()
        if tuple(value.shape) != wanted[place]:
            raise unsupported(file, name, f"the shape {tuple(value.shape)} where {wanted[place]} is needed")
        state[place] = value
    for place, shape in wanted.items():
        if place in state:
            continue
        if _may_lack(place, family, state):
            state[place] = torch.zeros(shape)
            continue
        name = next((name for name, where in places.items() if where == place), place)
        raise missing(file, visible(name), f"a {family.name} needs it")
    if config.tie_word_embeddings and head in model.state_dict():
        state[head] = state[places["token_embd.weight"]]
    return state


def _places(family: Family, model: nn.Module) -> dict[str, str]:
    """The model's parameter for each name that a GGUF file of the family may have."""
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    modules = {module: name for name, module in model.named_modules()}
    found = {"token_embd": modules[embedding], "output_norm": family.final_norm, "output": family.unembed}
    found["position_embd"] = "transformer.wpe"
    attention = family.attn
    block = {
        "attn_norm": family.attn_norm,
        "post_attention_norm": family.attn_post_norm,
        "attn_output": family.o,
        "attn_q_norm": f"{attention}.q_norm",
        "attn_k_norm": f"{attention}.k_norm",
        "ffn_norm": family.mlp_norm,
        "post_ffw_norm": family.mlp_post_norm,
        "ffn_up": family.up,
        "ffn_down": family.down,
    }
    if family.fused_qkv is None:
        block |= {"attn_q": family.q, "attn_k": family.k, "attn_v": family.v}
    else:
        block["attn_qkv"] = family.q
    if family.gate is not None and not family.fused_gate:
        block["ffn_gate"] = family.gate
    for layer in range(int(model.config.num_hidden_layers)):  # type: ignore[union-attr, arg-type]
        found |= {f"blk.{layer}.{name}": f"{family.blocks}.{layer}.{path}" for name, path in block.items() if path}
    return {f"{name}.{end}": f"{path}.{end}" for name, path in found.items() for end in ("weight", "bias")}


def _may_lack(place: str, family: Family, state: dict[str, Tensor]) -> bool:
    """Whether a parameter that no tensor fills is zero: the output's bias, where transformers has one for all four."""
    before, _, part = place.rpartition(f".{family.o}.")
    inputs = (family.q, family.k, family.v)
    return part == "bias" and family.fused_qkv is None and all(f"{before}.{path}.bias" in state for path in inputs)


def _undone(file: GgufFile, name: str, config: Any) -> Any:
    """A tensor's numbers as transformers orders them."""
    value = file.values(name)
    if file.arch == "llama" and (found := re.fullmatch(r"blk\.\d+\.attn_([qk])\.(weight|bias)", name)):
        heads = config.num_attention_heads if found[1] == "q" else config.num_key_value_heads
        if value.shape[0] % (2 * heads):
            raise unsupported(file, name, f"{value.shape[0]} rows for {heads} heads")
        # neighbours rotate in the file, halves in transformers
        pairs = value.reshape(heads, value.shape[0] // heads // 2, 2, *value.shape[1:])
        return pairs.swapaxes(1, 2).reshape(value.shape)
    if file.arch.startswith("gemma") and name.endswith("norm.weight"):
        return value - 1
    if file.arch == "gpt2" and re.fullmatch(r"blk\.\d+\.(attn_qkv|attn_output|ffn_up|ffn_down)\.weight", name):
        return value.T
    return value
