"""Scores of attention as sums over pairs of parts: exact in every family, against the model's own scores."""

from __future__ import annotations

import pytest
import torch

from families import NAMES, model_of, random_ids
from hooke.model import held_view, live_view
from hooke.model.scores import score_pairs
from hooke.sites import Site

pytestmark = pytest.mark.usefixtures("exact_norms")
F64, N_POS = torch.float64, 6


@pytest.mark.parametrize("name", NAMES)
def test_pairs_add_up_to_the_model_s_own_score(name: str) -> None:
    model = model_of(name, F64)
    ids = random_ids(N_POS)
    held = held_view(model, model.tokens(ids))
    live = live_view(model, held)
    layer = model.parts.n_layers - 1
    cap = live.attention[layer].heads.softcap
    scores = model.run(ids, read=[Site("scores", layer)]).acts[Site("scores", layer)][0]
    streams = [held.tokens()]
    for below in range(layer):
        streams += [held.value(Site("attn_out", below)), held.value(Site("mlp_out", below))]
    parts = torch.stack(streams)  # (part, pos, d_model): all that was written before the layer
    assert torch.allclose(parts.sum(0), held.value(Site("resid_pre", layer)))
    tried = 0
    for head in range(model.parts.n_heads):
        for query, key in ((N_POS - 1, 2), (4, 4), (N_POS - 1, N_POS - 2), (3, 1)):
            wanted = float(scores[head, query, key])
            if wanted < -1e30:  # outside a window
                continue
            pairs = score_pairs(live, layer, head, (query, key), parts[:, query], parts[:, key])
            assert pairs.shape == (len(parts) + 1, len(parts) + 1)
            total = float(pairs.sum())
            found = total if cap is None else cap * float(torch.tanh(torch.tensor(total / cap)))
            assert abs(found - wanted) < 1e-5 * max(1.0, abs(wanted))
            tried += 1
    assert tried >= 8
