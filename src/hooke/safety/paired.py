"""Two models over the same tokens, sharing the blocks in which they are equal, and what comes of it at each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hooke.data.audit.battery import SYSTEM
from hooke.errors import HookeError
from hooke.harvest import batches
from hooke.methods.progress import Tick, idle
from hooke.model import Model, Tokens
from hooke.model.budget import budget, pass_tokens
from hooke.model.run import Activations, Prefix
from hooke.model.state import config_of, settings_of
from hooke.sites import Site


class Pair(NamedTuple):
    """A model and the one that it is compared with. shared: how many blocks, from the embedding up, are equal."""

    model: Model
    reference: Model
    shared: int


class Both(NamedTuple):
    """What two models gave on the same tokens: final_norm (batch pos d_model) and other reads of each."""

    model: Activations
    reference: Activations


def pair(model: Model, reference: Model) -> Pair:
    """Put two models of one shape beside each other.

    Raises HookeError if their layers, widths, vocabularies or chat templates differ: then the difference
    between their answers would be one of format.
    """
    a, b = model.parts, reference.parts
    for name in ("n_layers", "d_model", "d_mlp", "d_vocab"):
        if getattr(a, name) != getattr(b, name):
            raise HookeError(
                f"{reference.name} cannot be the reference of {model.name}: {name} is {getattr(b, name)} there and "
                f"{getattr(a, name)} here"
            )
    templates = [getattr(m.tokenizer, "chat_template", None) for m in (model, reference)]
    if templates[0] != templates[1]:
        raise HookeError(f"{reference.name} cannot be the reference of {model.name}: their chat templates differ")
    return Pair(model, reference, shared_blocks(model, reference))


def shared_blocks(model: Model, reference: Model) -> int:
    """How many blocks from the embedding up have equal weights in both (0 if the embeddings differ).

    At most one less than all: the last block is always run.
    """
    ours, theirs = model.hf.get_input_embeddings().weight, reference.hf.get_input_embeddings().weight  # type: ignore[operator]
    if ours.dtype != theirs.dtype or not torch.equal(ours, theirs):
        return 0
    # equal weights compute the same only where they are read in the same way
    if any(read(model.hf) != read(reference.hf) for read in (config_of, settings_of)):
        return 0
    last = model.parts.n_layers - 1
    for layer, (a, b) in enumerate(zip(model.parts.blocks, reference.parts.blocks, strict=True)):
        if layer == last:
            break
        own = list(a.module.state_dict().items())
        other = b.module.state_dict()
        if any(name not in other or not torch.equal(value, other[name]) for name, value in own):
            return layer
    return last


def asked(model: Model, question: str, *, system: str = SYSTEM) -> list[int]:
    """The token ids of a question in the model's chat template, with a system message. One row.

    Raises HookeError if the model has no chat template.
    """
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return [int(i) for i in model.chat(messages).ids[0]]


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many ids all rows begin with, at most one less than the shortest."""
    least = min(len(row) for row in rows)
    first = rows[0]
    n = next((i for i in range(least) if any(row[i] != first[i] for row in rows)), least)
    return min(n, least - 1)


def by_length(rows: Sequence[Sequence[int]], size: int = 128) -> list[list[int]]:
    """Indices in batches of rows of one length: what follows a prefix takes no padding."""
    groups: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(len(row), []).append(i)
    return [group[n : n + size] for group in groups.values() for n in range(0, len(group), size)]


def run_both(
    both: Pair,
    tokens: Tokens,
    *,
    read: Sequence[Site] = (),
    after: tuple[Prefix, Prefix] | None = None,
) -> Both:
    """Run both models on the same tokens; the equal blocks run in the reference only.

    read: further sites; those below the first different block are the reference's for both.
    after: the prefix of the model and of the reference, if the tokens follow one.
    """
    final, start = Site("final_norm"), Site("resid_pre", both.shared)
    ours, theirs = after or (None, None)
    below = [site for site in read if site < start]
    above = [site for site in read if site not in below]
    extra = [start] if both.shared else []
    b = both.reference.run(tokens, read=[*read, *extra, final], logits=None, after=theirs).acts
    entering = (both.shared, b[start]) if both.shared else None
    a = both.model.run(tokens, read=[*above, final], logits=None, after=ours, entering=entering).acts
    for site in below:
        a[site] = b[site]
    return Both(a, b)


def log_probabilities(model: Model, final: Tensor) -> Tensor:
    """Log-probabilities (… d_vocab) in fp32 of what reads the final norm (… d_model)."""
    return model.parts.capped(model.parts.unembed.apply(final).float()).log_softmax(-1)


class Divergence(NamedTuple):
    """At each token of one answer: KL(model‖reference) in nats, the log-ratio of the token that stands there, and the
    tokens whose p·log(p/q) is largest with that value (n, k), and the greatest logit differences (n, k) as ids."""

    kl: Tensor
    ratio: Tensor
    top_ids: Tensor
    top_values: Tensor
    raised: Tensor


def divergence(both: Pair, a: Tensor, b: Tensor, ids: Tensor, *, top: int = 8) -> Divergence:
    """Compare the two distributions after `a` and `b` (n, d_model), the final norms, before the tokens `ids` (n,)."""
    found = []
    step = budget(both.model.device).fit(8 * 4 * both.model.parts.d_vocab)  # rows of logits, several times over
    for n in range(0, len(ids), step):
        p, q = log_probabilities(both.model, a[n : n + step]), log_probabilities(both.reference, b[n : n + step])
        difference = p - q
        part = p.exp_() * difference
        best = part.topk(top, dim=-1)
        ratio = difference.gather(1, ids[n : n + step, None])[:, 0]
        raised = difference.topk(top, -1).indices
        found.append(Divergence(part.sum(-1).clamp(min=0), ratio, best.indices, best.values, raised))
    return Divergence(*(torch.cat(column) for column in zip(*found, strict=True)))


class Answer(NamedTuple):
    """A greedy answer: its ids without the end token, whether it ended by itself, its text, and the final norm from
    which each of its ids was chosen (n, d_model)."""

    ids: list[int]
    ended: bool
    text: str
    final: Tensor


def greedy(model: Model, rows: Sequence[Sequence[int]], count: int, tick: Tick = idle) -> list[Answer]:
    """Greedy answers of at most `count` tokens to prompts of any lengths, in their order."""
    found: list[Answer | None] = [None] * len(rows)
    done = 0
    for batch in batches([len(row) for row in rows], tokens=pass_tokens(model)):
        tokens = model.pad([rows[i] for i in batch])
        steps, finals = [], []
        for step in model.stream(tokens, max_new_tokens=count, read=["final_norm"]):
            steps.append(step.tokens)
            finals.append(step.acts["final_norm"][:, -1])
            tick((done + len(batch) * len(steps) / count) / len(rows))
        for i, row, final in zip(batch, torch.stack(steps, 1).tolist(), torch.stack(finals, 1), strict=True):
            found[i] = _cut(model, row, final)
        done += len(batch)
        tick(done / len(rows))
    return [answer for answer in found if answer is not None]


def _cut(model: Model, ids: list[int], final: Tensor) -> Answer:
    ends = set(model.end_ids())
    at = next((n for n, i in enumerate(ids) if i in ends), None)
    kept = ids if at is None else ids[:at]
    return Answer(kept, at is not None, model.said(kept, special=False), final[: len(kept)])
