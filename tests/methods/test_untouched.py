"""A verb leaves a person's model as it was: configuration, hooks, gradients and the numbers that it gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import hooke
import verbs
from families import NAMES, new_hf
from hooke import Model
from hooke.methods.probe import random_twin


def state(hf: Any) -> dict[str, Any]:
    """What a verb could leave behind."""
    hooks = sum(
        len(hooks)
        for module in hf.modules()
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    )
    return {
        "config": hf.config.to_dict(),
        "attention": hf.config._attn_implementation,
        "hooks": hooks,
        "training": [module.training for module in hf.modules()],
        "grad": [(p.requires_grad, p.grad is None) for p in hf.parameters()],
        "forward": [name for name, module in hf.named_modules() if "forward" in vars(module)],
        "rng": torch.random.get_rng_state().tolist(),
    }


@pytest.mark.parametrize("name", NAMES)
def test_random_weights_are_a_model_of_their_own(name: str) -> None:
    """The twin took the model's configuration and changed how its attention is computed; Gemma 2 ended in a traceback,
    and afterwards gave logits without its soft cap."""
    hf = new_hf(name)
    ids = torch.tensor([[11, 5, 9, 23, 7]])
    want, before = hf(ids).logits, state(hf)
    model = Model(hf, verbs.words(), name=name)
    twin = random_twin(model)
    assert twin.hf.config is not hf.config
    assert twin.hf.config._attn_implementation == before["attention"]
    assert not torch.equal(twin.hf(ids).logits, want)
    assert torch.equal(hf(ids).logits, want) and state(hf) == before
    fitted = hooke.probe(model, verbs.statements(), kind="means", site="resid_post.1", pool="mean")
    tested = hooke.probe_test(model, fitted, verbs.statements(), benign=0)
    assert 0 <= tested.payload["baselines"]["random_weights"]["auroc"] <= 1
    assert torch.equal(hf(ids).logits, want) and state(hf) == before


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("verb", list(verbs.VERBS))
def test_every_verb_leaves_the_model_as_it_was(verb: str, attention: str) -> None:
    hf = new_hf("llama")
    hf.set_attn_implementation(attention)
    ids = torch.tensor([[11, 5, 9, 23, 7]])
    want, before = hf(ids).logits, state(hf)
    verbs.VERBS[verb](Model(hf, verbs.words(), name=attention))
    assert state(hf) == before
    assert torch.equal(hf(ids).logits, want)
