"""`lens`: what each layer would say next, at each position."""

from __future__ import annotations

import time

import torch

from hooke.arguments import verb
from hooke.errors import HookeError
from hooke.methods.asking import recorded
from hooke.methods.progress import Progress
from hooke.model import Model
from hooke.model.model import Prompt
from hooke.results import Claim, Result
from hooke.sites import Site


@verb
def lens(model: Model, prompt: Prompt, *, top: int = 5, progress: Progress | None = None) -> Result:
    """Read the residual stream after every layer through the final norm and the unembedding (the logit
    lens, nostalgebraist 2020), at every position of one prompt.

    top: how many tokens to keep at each place.
    progress: called often with a stage and how much of it is done, 0 to 1; what it raises stops the work.
    Returns a `Result` of kind "lens"; payload: tokens, layers (-1 is the embedding), next (layer,
    position, top) as token, id and probability, entropy in nats (layer, position), and for the last
    position the first layer from which the model's own choice stays first. tensors: probabilities and
    ids, (layer + 1, pos, top).
    Raises HookeError for an empty or too long prompt, or several prompts.
    """
    start = time.perf_counter()
    tokens = model.one(prompt, "lens reads")
    if not 1 <= top <= model.parts.d_vocab:
        raise HookeError(f"top must lie between 1 and {model.parts.d_vocab}")
    n_layers = model.parts.n_layers
    sites = [Site("resid_pre", 0), *(Site("resid_post", layer) for layer in range(n_layers))]
    if progress is not None:
        progress("forward", 0.0)
    run = model.run(tokens, read=sites)
    assert run.logits is not None
    norm, unembed = model.parts.final_norm, model.parts.unembed
    ids, probabilities, entropies = [], [], []
    for number, site in enumerate(sites):
        if progress is not None:
            progress("forward", (1 + number) / (1 + len(sites)))
        x = run.acts[site][0]
        if site == sites[-1]:
            logits = run.logits[0].float()
        else:
            wide = x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
            y = norm.apply(wide, norm.scale(wide)).to(x.dtype)
            logits = model.parts.capped(unembed.apply(y).float())
        log = logits.log_softmax(-1)
        best = log.topk(top, dim=-1)
        ids.append(best.indices)
        probabilities.append(best.values.exp())
        entropies.append(-(log.exp() * log).sum(-1))
    at, p, entropy = torch.stack(ids), torch.stack(probabilities), torch.stack(entropies)
    choice = int(at[-1, -1, 0])
    first = n_layers
    while first > 0 and int(at[first - 1, -1, 0]) == choice:
        first -= 1
    texts = model.text(tokens.ids[0])
    shown = at.unique().tolist()
    names = dict(zip(shown, model.text(shown), strict=True))
    rows = [
        [
            [{"token": names[i], "id": i, "probability": q} for i, q in zip(id_row, p_row, strict=True)]
            for id_row, p_row in zip(id_layer, p_layer, strict=True)
        ]
        for id_layer, p_layer in zip(at.tolist(), p.tolist(), strict=True)
    ]
    word = "the embedding" if first == 0 else f"layer {first - 1}"
    text = f"The model's choice, {names[choice]!r} ({float(p[-1, -1, 0]):.1%}), is first from {word} on"
    seconds = round(time.perf_counter() - start, 3)
    return Result.make(
        "lens",
        arguments={**recorded(model, prompt, tokens), "top": top},
        provenance=model.provenance(),
        seconds={"forward": seconds, "total": seconds},
        claims=[Claim(text=text, evidence=["#choice"])],
        payload={
            "tokens": texts,
            "layers": list(range(-1, n_layers)),
            "next": rows,
            "entropy": entropy.tolist(),
            "choice": rows[-1][-1][0] | {"from_layer": first - 1},
            "sentence": text + ".",
        },
        tensors={"ids": at.cpu().numpy(), "probabilities": p.cpu().numpy()},
    )
