"""The table of families: where each family of models keeps the parts of a block.

One row a family; every row is proved by `checks.py` when a model is loaded, and on tiny random
configurations of all families in the tests. Nothing else in Hooke knows a module's name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hooke.errors import HookeError
from hooke.model.rotary import Rotary
from hooke.sites import Site


@dataclass(frozen=True)
class Family:
    """Module paths of one family. Paths are relative to the block unless they say otherwise."""

    name: str
    model_types: tuple[str, ...]  # `config.model_type` of the configurations it covers
    blocks: str = "model.layers"  # from the top
    final_norm: str = "model.norm"  # from the top
    unembed: str = "lm_head"  # from the top
    attn: str = "self_attn"
    attn_norm: str | None = "input_layernorm"
    attn_post_norm: str | None = None
    q: str = "self_attn.q_proj"
    k: str = "self_attn.k_proj"
    v: str = "self_attn.v_proj"
    o: str = "self_attn.o_proj"
    # how one fused matrix holds q, k and v: q rows, then k, then v; or q, k, v of head 0, then of head 1, …
    fused_qkv: Literal["blocks", "heads"] | None = None
    mlp: str = "mlp"
    mlp_norm: str | None = "post_attention_layernorm"
    mlp_post_norm: str | None = None
    gate: str | None = "mlp.gate_proj"  # None: an MLP without a gate
    up: str = "mlp.up_proj"  # without a gate: the only input matrix
    fused_gate: bool = False  # gate and up are the two halves of one matrix
    down: str = "mlp.down_proj"
    act: str = "mlp.act_fn"
    parallel: str | None = None  # config flag: attention and MLP both read resid_pre
    norm_offset: float = 0.0  # a norm multiplies by (offset + weight)


LLAMA = Family("Llama", ("llama",))

FAMILIES: tuple[Family, ...] = (
    LLAMA,
    replace(LLAMA, name="Mistral", model_types=("mistral",)),
    replace(LLAMA, name="Qwen2", model_types=("qwen2",)),
    replace(LLAMA, name="Qwen3", model_types=("qwen3",)),
    replace(
        LLAMA,
        name="Gemma 2",
        model_types=("gemma2",),
        attn_post_norm="post_attention_layernorm",
        mlp_norm="pre_feedforward_layernorm",
        mlp_post_norm="post_feedforward_layernorm",
        norm_offset=1.0,
    ),
    replace(
        LLAMA,
        name="Gemma 3",
        model_types=("gemma3_text",),
        attn_post_norm="post_attention_layernorm",
        mlp_norm="pre_feedforward_layernorm",
        mlp_post_norm="post_feedforward_layernorm",
        norm_offset=1.0,
    ),
    Family(
        "GPT-2",
        ("gpt2",),
        blocks="transformer.h",
        final_norm="transformer.ln_f",
        attn="attn",
        attn_norm="ln_1",
        q="attn.c_attn",
        k="attn.c_attn",
        v="attn.c_attn",
        o="attn.c_proj",
        fused_qkv="blocks",
        mlp_norm="ln_2",
        gate=None,
        up="mlp.c_fc",
        down="mlp.c_proj",
        act="mlp.act",
    ),
    Family(
        "GPT-NeoX",
        ("gpt_neox",),
        blocks="gpt_neox.layers",
        final_norm="gpt_neox.final_layer_norm",
        unembed="embed_out|lm_head",
        attn="attention",
        q="attention.query_key_value",
        k="attention.query_key_value",
        v="attention.query_key_value",
        o="attention.dense",
        fused_qkv="heads",
        gate=None,
        up="mlp.dense_h_to_4h",
        down="mlp.dense_4h_to_h",
        act="mlp.act",
        parallel="use_parallel_residual",
    ),
    replace(
        LLAMA,
        name="Phi-3",
        model_types=("phi3",),
        q="self_attn.qkv_proj",
        k="self_attn.qkv_proj",
        v="self_attn.qkv_proj",
        fused_qkv="blocks",
        gate="mlp.gate_up_proj",
        up="mlp.gate_up_proj",
        fused_gate=True,
        act="mlp.activation_fn",
    ),
    replace(
        LLAMA,
        name="OLMo-2",
        model_types=("olmo2",),
        attn_norm=None,
        attn_post_norm="post_attention_layernorm",
        mlp_norm=None,
        mlp_post_norm="post_feedforward_layernorm",
    ),
)


def family_of(config: Any) -> Family:
    """The family row for a transformers configuration. Raises HookeError for an unknown architecture."""
    kind = getattr(config, "model_type", None)
    for family in FAMILIES:
        if kind in family.model_types:
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise HookeError(
        f"no row for model type {kind!r}; Hooke knows {known}. "
        "A new family is one row in hooke/model/families.py plus the load-time checks"
    )


@dataclass
class Norm:
    """A norm as numbers: y = weight * (x - mean(x) if centred) / scale + bias."""

    module: nn.Module
    offset: float  # the family's: a norm multiplies by (offset + its parameter)
    centred: bool

    @property
    def eps(self) -> float:
        """What the module adds to the mean square now."""
        return float(_epsilon(self.module) or 0.0)

    @property
    def weight(self) -> Tensor:
        """(d,)"""
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        weight = weight.detach()
        if not self.offset:
            return weight
        return (
            weight if weight.dtype == torch.float64 else weight.float()
        ) + self.offset  # 1 + w in half would round w

    @property
    def bias(self) -> Tensor | None:
        bias = getattr(self.module, "bias", None)
        return None if bias is None else bias.detach()

    def scale(self, x: Tensor) -> Tensor:
        """The denominator at x, (… 1), in at least fp32."""
        x = x if x.dtype == torch.float64 else x.float()
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        return (x.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()

    def apply(self, x: Tensor, scale: Tensor) -> Tensor:
        """The norm with its denominator given: linear in x plus a constant."""
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        y = self.weight * (x / scale)
        return y if self.bias is None else y + self.bias

    def pull(self, cotangent: Tensor, scale: Tensor) -> Tensor:
        """The transpose of the linear part of `apply`."""
        g = cotangent * self.weight / scale
        return g - g.mean(-1, keepdim=True) if self.centred else g

    def pull_live(self, cotangent: Tensor, scale: Tensor, x: Tensor) -> Tensor:
        """The transpose of the norm's derivative at x, whose denominator moves with it."""
        g = self.pull(cotangent, scale)
        unit = (x - x.mean(-1, keepdim=True) if self.centred else x) / scale
        return g - unit * (g * unit).mean(-1, keepdim=True)


class NoNorm(Norm):
    """What stands in the place of the last norm in a model without norms: y = x, an `nn.Identity`."""

    @property
    def weight(self) -> Tensor:
        """(), one."""
        return torch.ones(())

    def scale(self, x: Tensor) -> Tensor:
        """Ones, (… 1), in at least fp32."""
        return torch.ones_like(x[..., :1], dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)

    def pull_live(self, cotangent: Tensor, scale: Tensor, x: Tensor) -> Tensor:
        """The same as held: there is no denominator."""
        return self.pull(cotangent, scale)


@dataclass
class Linear:
    """A matrix of the model, or the rows of a fused one that belong to one use of it."""

    module: nn.Module
    rows: Tensor | slice | None  # which outputs of the module (None: all)
    transposed: bool  # GPT-2's Conv1D keeps (in, out)

    @property
    def weight(self) -> Tensor:
        """(out, in), a view where the rows are a slice."""
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        weight = weight.detach()
        return self.take(weight.T if self.transposed else weight, 0)

    @property
    def bias(self) -> Tensor | None:
        bias = getattr(self.module, "bias", None)
        return None if bias is None else self.take(bias.detach(), 0)

    def apply(self, x: Tensor, *, bias: bool = True) -> Tensor:
        """W x + b in the precision of x, (… in) to (… out)."""
        y = x @ self.weight.to(x.dtype).T
        return y if self.bias is None or not bias else y + self.bias.to(x.dtype)

    @property
    def n_out(self) -> int:
        """How many numbers this use of the matrix gives."""
        whole = self._shape()[1 if self.transposed else 0]
        if isinstance(self.rows, slice):
            return len(range(whole)[self.rows])
        return whole if self.rows is None else len(self.rows)

    @property
    def n_in(self) -> int:
        """How many numbers it takes."""
        return self._shape()[0 if self.transposed else 1]

    def _shape(self) -> torch.Size:
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return weight.shape

    def take(self, x: Tensor, axis: int) -> Tensor:
        """The rows of this use along an axis of the module's outputs; a view where they are a slice."""
        if self.rows is None:
            return x
        if isinstance(self.rows, slice):
            return x.narrow(axis, self.rows.start, self.rows.stop - self.rows.start)
        if self.rows.device != x.device:
            self.rows = self.rows.to(x.device)
        return x.index_select(axis, self.rows)

    def put(self, x: Tensor, axis: int, part: Tensor) -> Tensor:
        """A copy of x with the rows of this use replaced by `part`."""
        if self.rows is None:
            return part
        if isinstance(self.rows, slice):
            return x.slice_scatter(part, axis, self.rows.start, self.rows.stop)
        return x.index_copy(axis, self.rows.to(x.device), part)


@dataclass
class Block:
    """The parts of one block, found through the family row."""

    module: nn.Module
    attn: nn.Module
    attn_norm: Norm | None
    attn_post_norm: Norm | None
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    mlp: nn.Module
    mlp_norm: Norm | None
    mlp_post_norm: Norm | None
    gate: Linear | None  # what the nonlinearity takes, in a gated MLP
    up: Linear  # the other factor; without a gate, what the nonlinearity takes
    down: Linear
    act: nn.Module


@dataclass
class Parts:
    """Everything that the row of a family found in a model, with the sizes that follow from it."""

    family: Family
    blocks: list[Block]
    final_norm: Norm
    unembed: Linear
    softcap: float | None
    parallel: bool
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_model: int
    d_mlp: int
    n_layers: int
    d_vocab: int
    context: int
    rotary: Rotary  # what depends on the length of the whole sequence

    def capped(self, logits: Tensor) -> Tensor:
        """Logits as the model gives them, where it caps them softly."""
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def width(self, site: Site) -> int:
        """How many numbers a token has at a site, heads side by side; 1 where that depends on the prompt."""
        sizes = {"head": self.n_heads, "kv_head": self.n_kv_heads, "d_head": self.d_head, "d_model": self.d_model}
        axes = site.shape.split()[2:]
        return math.prod((sizes | {"d_mlp": self.d_mlp}).get(axis, 1) for axis in axes)


def _get(root: nn.Module, path: str, what: str) -> nn.Module:
    for choice in path.split("|"):
        try:
            return root.get_submodule(choice)
        except AttributeError:
            continue
    raise HookeError(f"this model has no module {path!r} ({what}); its family row does not fit it")


def _norm(root: nn.Module, path: str | None, offset: float) -> Norm | None:
    if path is None:
        return None
    module = _get(root, path, "a norm")
    if isinstance(module, nn.Identity):  # a norm that was taken out
        return None
    if _epsilon(module) is None or getattr(module, "weight", None) is None:
        raise HookeError(f"the norm {path!r} has no epsilon or no weight; its family row does not fit it")
    return Norm(module, offset, isinstance(module, nn.LayerNorm))


def _epsilon(module: nn.Module) -> Any:
    return getattr(module, "eps", getattr(module, "variance_epsilon", None))


def _context(config: Any) -> int:
    """How many tokens a model is made for: dynamic NTK stretches what the configuration names by a factor."""
    named = int(getattr(config, "max_position_embeddings", 0) or 2**31)
    ropes = getattr(config, "rope_parameters", None) or {}
    kinds = ropes.values() if all(isinstance(x, dict) for x in ropes.values()) else [ropes]
    factors = [float(x.get("factor") or 1) for x in kinds if x.get("rope_type") == "dynamic"]
    return int(named * max([1.0, *factors]))


def find_parts(hf: nn.Module, family: Family | None = None) -> Parts:
    """Locate the parts of a transformers model. Raises HookeError naming what is missing."""
    config: Any = hf.config
    family = family or family_of(config)
    final_norm = _norm(hf, family.final_norm, family.norm_offset)
    if final_norm is None:
        if not family.final_norm:
            raise HookeError(f"the family row {family.name} names no final norm")
        final_norm = NoNorm(_get(hf, family.final_norm, "the last norm"), 0.0, centred=False)
    n_heads = int(config.num_attention_heads)
    n_kv_heads = int(getattr(config, "num_key_value_heads", None) or n_heads)
    d_model = int(config.hidden_size)
    d_head = int(getattr(config, "head_dim", None) or d_model // n_heads)
    blocks = []
    layers = _get(hf, family.blocks, "the list of blocks")
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise HookeError(f"{family.blocks!r} is not a list of blocks; the family row {family.name} does not fit")
    for module in layers:
        q, k, v = _qkv(module, family, n_heads, n_kv_heads, d_head)
        gate, up = _gate_up(module, family)
        blocks.append(
            Block(
                module=module,
                attn=_get(module, family.attn, "attention"),
                attn_norm=_norm(module, family.attn_norm, family.norm_offset),
                attn_post_norm=_norm(module, family.attn_post_norm, family.norm_offset),
                q=q,
                k=k,
                v=v,
                o=_linear(module, family.o),
                mlp=_get(module, family.mlp, "the MLP"),
                mlp_norm=_norm(module, family.mlp_norm, family.norm_offset),
                mlp_post_norm=_norm(module, family.mlp_post_norm, family.norm_offset),
                gate=gate,
                up=up,
                down=_linear(module, family.down),
                act=_get(module, family.act, "the MLP's nonlinearity"),
            )
        )
    unembed = _linear(hf, family.unembed)
    d_mlp = blocks[0].down.n_in
    for block in blocks:
        _check_widths(family, block, d_model, n_heads * d_head, n_kv_heads * d_head, d_mlp)
    _check_width(family.unembed, "takes", unembed.n_in, d_model)
    return Parts(
        family=family,
        blocks=blocks,
        final_norm=final_norm,
        unembed=unembed,
        softcap=getattr(config, "final_logit_softcapping", None),
        parallel=bool(family.parallel and getattr(config, family.parallel, False)),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_head=d_head,
        d_model=d_model,
        d_mlp=d_mlp,
        n_layers=len(blocks),
        d_vocab=unembed.n_out,
        context=_context(config),
        rotary=Rotary(hf),
    )


def _check_widths(family: Family, block: Block, d_model: int, d_q: int, d_kv: int, d_mlp: int) -> None:
    """Raise HookeError naming a matrix that cannot be what the row says it is."""
    for path, linear, n_in, n_out in (
        (family.q, block.q, d_model, d_q),
        (family.k, block.k, d_model, d_kv),
        (family.v, block.v, d_model, d_kv),
        (family.o, block.o, d_q, d_model),
        (family.gate or family.up, block.gate or block.up, d_model, d_mlp),
        (family.up, block.up, d_model, d_mlp),
        (family.down, block.down, d_mlp, d_model),
    ):
        _check_width(path, "takes", linear.n_in, n_in)
        _check_width(path, "gives", linear.n_out, n_out)


def _check_width(path: str, verb: str, found: int, needed: int) -> None:
    if found != needed:
        raise HookeError(
            f"the matrix {path!r} {verb} {found} numbers where {needed} are needed; its family row does not fit"
        )


def _linear(root: nn.Module, path: str, rows: Tensor | slice | None = None) -> Linear:
    module = _get(root, path, "a matrix")
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise HookeError(f"{path!r} is not a matrix; its family row does not fit this model")
    return Linear(module, rows, transposed=type(module).__name__ == "Conv1D")


def _qkv(block: nn.Module, family: Family, n_heads: int, n_kv: int, d_head: int) -> list[Linear]:
    if family.fused_qkv is not None and not family.q == family.k == family.v:
        raise HookeError(f"the family row {family.name} fuses q, k and v but names several matrices")
    if family.fused_qkv is None:
        return [_linear(block, path) for path in (family.q, family.k, family.v)]
    _check_width(family.q, "gives", _linear(block, family.q).n_out, (n_heads + 2 * n_kv) * d_head)
    if family.fused_qkv == "blocks":
        a, b = n_heads * d_head, n_kv * d_head
        return [_linear(block, family.q, slice(i, j)) for i, j in ((0, a), (a, a + b), (a + b, a + 2 * b))]
    rows = torch.arange(3 * n_heads * d_head).view(n_heads, 3, d_head)
    return [_linear(block, family.q, rows[:, i].reshape(-1)) for i in range(3)]


def _gate_up(block: nn.Module, family: Family) -> tuple[Linear | None, Linear]:
    if family.fused_gate and family.gate != family.up:
        raise HookeError(f"the family row {family.name} fuses gate and up but does not name one matrix for both")
    if family.gate is None:
        return None, _linear(block, family.up)
    if not family.fused_gate:
        return _linear(block, family.gate), _linear(block, family.up)
    width = _linear(block, family.gate).n_out // 2
    return _linear(block, family.gate, slice(0, width)), _linear(block, family.up, slice(width, 2 * width))
