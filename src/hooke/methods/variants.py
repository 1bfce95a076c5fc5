"""Prompts like the one at hand with other tokens in places: what an explanation must hold against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hooke.model import Model, Tokens

N_NEAR = 40  # neighbours in embedding space to draw from
N_FREQUENT = 20000  # low ids are frequent tokens in byte-pair vocabularies


class Vocabulary:
    """Which tokens may stand for which: same leading space, capital and kind of character."""

    def __init__(self, model: Model) -> None:
        texts = model.tokenizer.convert_ids_to_tokens(list(range(model.parts.d_vocab)))
        codes: dict[tuple[bool, ...], int] = {}
        kinds = [codes.setdefault(_kind(text or ""), len(codes)) for text in texts]
        self.kinds = torch.tensor(kinds, device=model.device)
        self.embed: Tensor = model.hf.get_input_embeddings().weight.detach()  # type: ignore[operator]
        self.norms = self.embed.float().norm(dim=-1).clamp(min=1e-9)

    def substitute(self, token: int, near: bool, avoid: Sequence[int], generator: torch.Generator) -> int:
        """Another token of the same kind: one of the nearest by cosine, or any frequent one."""
        same = self.kinds == self.kinds[token]
        same[list(avoid)] = False
        if near:
            cosine = (self.embed @ self.embed[token]).float() / self.norms
            found = cosine.masked_fill(~same, -torch.inf).topk(min(N_NEAR, int(same.sum()))).indices
        else:
            found = same[:N_FREQUENT].nonzero()[:, 0]
        if not len(found):
            return token
        return int(found[int(torch.randint(len(found), (1,), generator=generator))])


def _kind(text: str) -> tuple[bool, ...]:
    space = text[:1] in ("Ġ", "▁")
    rest = text[1:] if space else text
    return space, rest[:1].isupper(), rest.isalpha(), rest.isdigit()


def like_counterfactuals(
    model: Model, ids: Tensor, others: Sequence[Tensor], count: int, generator: torch.Generator
) -> list[Tensor]:
    """Prompts with other tokens where a counterfactual differs; equal pairs of tokens change alike.

    Where the tokens that a counterfactual exchanges also stand elsewhere in the prompt, every second
    prompt changes them there instead: the answer may hang on those places as well.
    """
    vocabulary = Vocabulary(model)
    out = []
    for k in range(count):
        other, turn = others[k % len(others)], k // len(others)
        differs = ids != other
        row, chosen = ids.clone(), {}
        echoes = [t for t in torch.cat([ids[differs], other[differs]]).unique().tolist() if (ids[~differs] == t).any()]
        if echoes and turn % 2 == 1:
            token = echoes[(turn // 2) % len(echoes)]
            row[~differs & (ids == token)] = vocabulary.substitute(token, True, echoes, generator)
            out.append(row)
            continue
        for p in differs.nonzero()[:, 0].tolist():
            pair = (int(ids[p]), int(other[p]))
            if pair not in chosen:
                chosen[pair] = vocabulary.substitute(pair[turn % 4 // 2], turn % 2 == 0, pair, generator)
            row[p] = chosen[pair]
        out.append(row)
    return out


def elsewhere(model: Model, tokens: Tokens, count: int, generator: torch.Generator, most: int = 4) -> list[Tensor]:
    """Prompts with another token at one place: every place is tried, and those whose change moves the next
    token most are drawn, in proportion to how far they move it."""
    vocabulary = Vocabulary(model)
    ids = tokens.ids[0]

    def change(p: int, turn: int) -> Tensor:
        row = ids.clone()
        token = int(ids[p])
        new = vocabulary.substitute(token, turn % 2 == 0, (token,), generator)
        if turn % 4 < 2:
            row[p] = new
        else:  # wherever the token stands
            row[ids == token] = new
        return row

    places = range(1, len(ids))
    tried = [change(p, turn) for turn in range(2) for p in places]
    batch = torch.stack([ids, *tried])
    logits = []
    for part in batch.split(max(1, 2048 // len(ids))):
        run = model.run(Tokens(part, torch.ones_like(part, dtype=torch.bool)), logits="last")
        assert run.logits is not None
        logits.append(run.logits)
    log = torch.cat(logits).float().log_softmax(-1)
    moved = (log[0].exp() * (log[0] - log[1:])).sum(-1).view(2, -1).mean(0)
    best = moved.topk(min(most, len(moved)))
    picks = torch.multinomial(best.values.clamp(min=1e-3).cpu(), count, replacement=True, generator=generator)
    return [change(int(best.indices[k]) + 1, turn) for turn, k in enumerate(picks.tolist())]
