"""`patch` against a naive loop of single runs with a hook, and what it refuses."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import hooke
from families import model_of, one_thread, random_ids  # noqa: F401
from hooke import Edit, Model
from hooke.dictionaries import Direction, neurons
from hooke.errors import HookeError
from hooke.methods import metrics
from hooke.methods.patch.pair import question
from hooke.model import Tokens
from hooke.sites import Site
from transcoders import Transcoder

N_POS, GOOD, BAD = 5, 11, 45
HEADED = ("q", "k", "v", "z", "pattern")


def row(ids: Tensor) -> Tokens:
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


def a_pair(same: int = 1) -> tuple[Tokens, Tokens]:
    """Two prompts that begin with some tokens in common."""
    clean, corrupt = random_ids(1, N_POS), random_ids(1, N_POS, seed=5)
    corrupt[0, :same] = clean[0, :same]
    return row(clean), row(corrupt)


def difference(logits: Tensor) -> float:
    return float(logits[0, GOOD] - logits[0, BAD])


def naive(model: Model, base: Tokens, source: Tokens, site: Site) -> Any:
    """[position], or [head][position]: one run a patch, with an edit."""
    x = model.run(source, read=[site]).acts[site][0]

    def once(position: int, head: int | None) -> float:
        if site.point == "pattern":
            edit = Edit(site, value=x[head, position], positions=[position], index=[head])
        elif head is not None:
            edit = Edit(site, value=x[position, head], positions=[position], index=[head])
        else:
            edit = Edit(site, value=x[position], positions=[position])
        logits = model.run(base, edits=[edit], logits="last").logits
        assert logits is not None
        return difference(logits)

    n_heads = x.shape[0] if site.point == "pattern" else x.shape[1]
    if site.point in HEADED:
        return [[once(p, h) for p in range(N_POS)] for h in range(n_heads)]
    return [once(p, None) for p in range(N_POS)]


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "neox", "olmo2"])
def test_every_kind_of_site_equals_the_naive_loop(name: str) -> None:
    model = model_of(name)
    clean, corrupt = a_pair()
    points = [
        "resid_pre.1",
        "q.0",
        "k.1",
        "v.2",
        "z.1",
        "pattern.1",
        "attn_out.0",
        "mlp_in.2",
        "mlp_act.1",
        "mlp_out.1",
    ]
    points.append("resid_post.1")
    for direction, base, source in (("denoise", corrupt, clean), ("noise", clean, corrupt)):
        got = hooke.patch(model, clean, corrupt, sites=points, target=GOOD, contrast=BAD, direction=direction).payload
        for point in points:
            expected = torch.tensor(naive(model, base, source, Site.parse(point)))
            assert torch.allclose(torch.tensor(got["values"][point][0]), expected, atol=1e-4), (point, direction)
    ends = [difference(model.run(t, logits="last").logits) for t in (clean, corrupt)]
    assert [got["clean"], got["corrupt"]] == pytest.approx(ends, abs=1e-5)


def test_a_point_without_a_layer_is_swept_over_all_of_them() -> None:
    model, (clean, corrupt) = model_of("llama"), a_pair()
    result = hooke.patch(model, clean, corrupt, sites=["resid_post", "z"], target=GOOD, contrast=BAD)
    values = result.payload["values"]
    assert torch.tensor(values["resid_post"]).shape == (3, N_POS) == result.tensors["resid_post"].shape
    assert torch.tensor(values["z"]).shape == (3, 4, N_POS)
    expected = [naive(model, corrupt, clean, Site("z", layer)) for layer in range(3)]
    assert torch.allclose(torch.tensor(values["z"]), torch.tensor(expected), atol=1e-4)
    share = torch.tensor(result.payload["normalised"]["z"])
    start, end = result.payload["corrupt"], result.payload["clean"]
    assert torch.allclose(share, (torch.tensor(values["z"]) - start) / (end - start), atol=1e-5)
    # all of the stream leaving the last block at the last position is all that the answer depends on
    assert values["resid_post"][-1][-1] == pytest.approx(end, abs=1e-4)
    assert values["resid_post"][-1][:-1] == [pytest.approx(start, abs=1e-6)] * (N_POS - 1)


def test_what_is_the_same_is_not_run() -> None:
    model, (clean, corrupt) = model_of("llama"), a_pair(same=3)
    payload = hooke.patch(model, clean, corrupt, target=GOOD, contrast=BAD).payload
    assert payload["patches"] == 3 * N_POS and payload["runs"] == 3 * 2
    assert all(v == pytest.approx(payload["corrupt"]) for layer in payload["values"]["resid_post"] for v in layer[:3])


def test_all_positions_in_one_patch() -> None:
    model, (clean, corrupt) = model_of("gemma3"), a_pair()
    values = hooke.patch(model, clean, corrupt, sites="z", positions="all", target=GOOD, contrast=BAD).payload["values"]
    for layer, head in product(range(3), range(4)):
        x = model.run(clean, read=[f"z.{layer}"]).acts[f"z.{layer}"][0, :, head]
        edits = [Edit(f"z.{layer}", value=x[:, None], index=[head])]
        expected = difference(model.run(corrupt, edits=edits, logits="last").logits)
        assert values["z"][layer][head] == [pytest.approx(expected, abs=1e-4)]


def test_neurons_and_features() -> None:
    model, (clean, corrupt) = model_of("llama"), a_pair()
    direction = Direction(Site("resid_post", 1), torch.randn(32, generator=torch.Generator().manual_seed(1)), 0.3)
    block = neurons(model)[1]
    payload = hooke.patch(
        model, clean, corrupt, sites=["mlp_act.1.7", (block, [3, 7]), (direction, [0])], target=GOOD, contrast=BAD
    ).payload
    units = payload["values"][block.hash][0]
    assert payload["values"]["mlp_act.1.7"][0][0] == units[1]
    act = Site("mlp_act", 1)
    x = model.run(clean, read=[act, direction.site]).acts
    for position in range(N_POS):
        edit = [Edit(act, value=x[act][0, position, 3], positions=[position], index=[3])]
        assert units[0][position] == pytest.approx(
            difference(model.run(corrupt, edits=edit, logits="last").logits), abs=1e-4
        )
        value = direction.values(x[direction.site][0, position])
        edit = direction.edits(torch.tensor([0]), value[None], torch.tensor([position]))
        expected = difference(model.run(corrupt, edits=edit, logits="last").logits)
        assert payload["values"][direction.hash][0][0][position] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("way", ["denoise", "noise"])
def test_features_that_write_several_layers_are_patched_in_the_live_run(way: str) -> None:
    """What a feature writes first moves what stands where it writes later, as an edit of the feature has it."""
    model, (clean, corrupt) = model_of("llama"), a_pair()
    block = Transcoder("mlp_in.0", ["mlp_out.0", "attn_out.1", "resid_post.2"], 32, 40, seed=3)
    read = block.reads[0]
    there, here = (clean, corrupt) if way == "denoise" else (corrupt, clean)
    values = block.dense(model.run(there, read=[read]).acts[read][0])
    moved = (values - block.dense(model.run(here, read=[read]).acts[read][0])).abs().amax(0)
    ids = moved.topk(2).indices.tolist()
    payload = hooke.patch(model, clean, corrupt, sites=[(block, ids)], target=GOOD, contrast=BAD, direction=way).payload
    for k, feature in enumerate(ids):
        for position in range(N_POS):
            edits = block.edits(torch.tensor([feature]), values[position, feature], torch.tensor([position]))
            expected = difference(model.run(here, edits=edits, logits="last").logits)
            assert payload["values"][block.hash][0][k][position] == pytest.approx(expected, abs=1e-4)


def test_ablations() -> None:
    model, clean = model_of("qwen3"), row(random_ids(1, N_POS))
    data = [row(random_ids(1, N_POS, seed=20 + i)) for i in range(3)]
    site = Site("mlp_out", 1)
    reads = torch.stack([model.run(d, read=[site]).acts[site][0] for d in data])

    def once(value: Tensor, position: int) -> float:
        return difference(model.run(clean, edits=[Edit(site, value=value, positions=[position])], logits="last").logits)

    options: dict[str, Any] = {"sites": "mlp_out.1", "target": GOOD, "contrast": BAD}
    zero = hooke.patch(model, clean, ablation="zero", **options).payload
    mean = hooke.patch(model, clean, ablation="mean", data=data, **options).payload
    drawn = hooke.patch(model, clean, ablation="resample", data=data, samples=3, **options).payload
    for p in range(N_POS):
        assert zero["values"]["mlp_out.1"][0][p] == pytest.approx(once(torch.zeros(32), p), abs=1e-4)
        assert mean["values"]["mlp_out.1"][0][p] == pytest.approx(once(reads[:, p].mean(0), p), abs=1e-4)
        each = [once(x[p], p) for x in reads]
        assert drawn["values"]["mlp_out.1"][0][p] == pytest.approx(sum(each) / 3, abs=1e-4)
    assert zero["corrupt"] is None and zero["normalised"]["mlp_out.1"] is None


def test_prompts_of_different_length_are_aligned_by_what_they_share() -> None:
    model = model_of("llama")
    one = torch.tensor([[5, 6, 7, 8, 9]])
    other = torch.tensor([[5, 6, 20, 21, 8, 9]])
    clean, corrupt = row(one), row(other)
    with pytest.raises(HookeError, match=r"5 tokens and the corrupt one 6.*align"):
        hooke.patch(model, clean, corrupt, target=GOOD, contrast=BAD)
    payload = hooke.patch(model, clean, corrupt, sites="resid_post.0", target=GOOD, contrast=BAD, align=True).payload
    (values,) = payload["values"]["resid_post.0"]
    assert values[2:4] == [None, None] and payload["normalised"]["resid_post.0"][0][2] is None
    x = model.run(clean, read=["resid_post.0"]).acts["resid_post.0"][0]
    for here, there in ((4, 3), (5, 4)):
        edit = [Edit("resid_post.0", value=x[there], positions=[here])]
        assert values[here] == pytest.approx(difference(model.run(corrupt, edits=edit, logits="last").logits), abs=1e-4)


@pytest.mark.parametrize("metric", ["probability", "kl", "accuracy", "logit", "callable"])
def test_metrics(metric: str) -> None:
    model, (clean, corrupt) = model_of("llama"), a_pair()
    chosen: Any = (lambda logits: logits[:, 3] * logits[:, 4]) if metric == "callable" else metric
    tokens = {"target": GOOD, "contrast": BAD} if metric == "accuracy" else {"target": GOOD}
    tokens = {} if metric in ("kl", "callable") else tokens
    clean_logits = model.run(clean, logits="last").logits
    assert clean_logits is not None
    log = clean_logits.log_softmax(-1)
    of = {
        "probability": lambda x: x.softmax(-1)[:, GOOD],
        "kl": lambda x: -(log.exp() * (log - x.log_softmax(-1))).sum(-1),
        "accuracy": lambda x: (x[:, GOOD] > x[:, BAD]).float(),
        "logit": lambda x: x[:, GOOD],
        "callable": chosen,
    }[metric]
    if metric == "accuracy":  # the pair must differ in it
        margin = [difference(model.run(t, logits="last").logits) for t in (clean, corrupt)]
        if margin[0] * margin[1] > 0:
            with pytest.raises(HookeError, match="on the clean and on the corrupt prompt"):
                hooke.patch(model, clean, corrupt, sites="resid_post.1", metric=chosen, **tokens)
            return
    (values,) = hooke.patch(model, clean, corrupt, sites="resid_post.1", metric=chosen, **tokens).payload["values"][
        "resid_post.1"
    ]
    x = model.run(clean, read=["resid_post.1"]).acts["resid_post.1"][0]
    for p in range(N_POS):
        logits = model.run(corrupt, edits=[Edit("resid_post.1", value=x[p], positions=[p])], logits="last").logits
        assert values[p] == pytest.approx(float(of(logits)[0]), abs=1e-4)


def test_metrics_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(2), math.log(5)], [1.0, 1.0, 1.0]])
    assert metrics.logit_difference(2, [0, 1])(logits).tolist() == pytest.approx([math.log(5) - math.log(2) / 2, 0])
    assert metrics.probability(2)(logits).tolist() == pytest.approx([5 / 8, 1 / 3])
    assert metrics.probability([2, 1], [0])(logits).tolist() == pytest.approx([6 / 8, 1 / 3])
    assert metrics.accuracy(2, [0, 1])(logits).tolist() == [1.0, 0.5]
    assert metrics.accuracy([0, 1], 2)(logits).tolist() == [0.0, 0.5]
    same, flat = metrics.kl(logits[1])(logits).tolist()[1], metrics.kl(logits[0])(logits).tolist()[1]
    want = -sum(p * math.log(3 * p) for p in (1 / 8, 2 / 8, 5 / 8))
    assert same == pytest.approx(0, abs=1e-6) and flat == pytest.approx(want, abs=1e-6)


def test_what_patch_refuses() -> None:
    model, (clean, corrupt) = model_of("llama"), a_pair()
    ok: dict[str, Any] = {"target": GOOD, "contrast": BAD}
    for options, says in (
        ({"sites": "resid_psot"}, "cannot read site"),
        ({"sites": "z.1.9"}, "4 units"),
        ({"sites": "z.8"}, "3 layers"),
        ({"sites": "scores"}, "use pattern"),
        ({"sites": []}, "no sites"),
        ({"sites": ["z", "z"]}, "given twice"),
        ({"positions": [9]}, "between -5 and 4"),
        ({"positions": [1, -4]}, "position is given twice"),
        ({"metric": "kl"}, "kl compares whole predictions"),
        ({"direction": "backwards"}, "denoise"),
        ({"ablation": "optimal"}, "no ablation"),
        ({"ablation": "zero", "direction": "denoise"}, "noise"),
        ({"ablation": "mean"}, "needs data"),
        ({"ablation": "mean", "data": [row(random_ids(1, 3))]}, "3 tokens"),
        ({"contrast": GOOD}, "both target and contrast"),
        ({"target": 9999}, "between 0 and 96"),
        ({"metric": "loss"}, "no metric called"),
        ({"metric": lambda x: x[:, 0] * 0, "target": None, "contrast": None}, "choose tokens"),
        ({"metric": lambda x: x, "target": None, "contrast": None}, "one number a row"),
        ({"metric": lambda x: x[:, 0] / 0, "target": None, "contrast": None}, "not finite"),
        ({"metric": lambda x: x[:, 0]}, "leave target and contrast out"),
    ):
        with pytest.raises(HookeError, match=says):
            hooke.patch(model, clean, corrupt, **{**ok, **options})
    with pytest.raises(HookeError, match="needs a corrupt prompt"):
        hooke.patch(model, clean, **ok)
    with pytest.raises(HookeError, match=r"a prompt is a text, .*not 3"):
        hooke.patch(model, 3, corrupt, **ok)  # type: ignore[arg-type]
    with pytest.raises(HookeError, match="llama gives logits that are not finite"):
        question(model, None, None, None, torch.full((9,), math.nan), torch.zeros(9))
    with pytest.raises(HookeError, match="the same"):
        hooke.patch(model, clean, clean, **ok)
    with pytest.raises(HookeError, match="parallel"):
        hooke.patch(model_of("neox"), clean, corrupt, sites="resid_mid", **ok)


def test_the_pair_of_the_issue_on_the_default_model(smol: Model) -> None:
    """Every site of a few layers of the full sweep against a loop of plain hooks."""
    prompts = [f"When Mary and John went to the store, {name} gave a drink to" for name in ("John", "Mary")]
    payload = hooke.patch(smol, *prompts, target=" Mary", contrast=" John").payload
    clean, corrupt = (smol.tokenizer(text, return_tensors="pt")["input_ids"] for text in prompts)
    ids = [smol.token(" Mary"), smol.token(" John")]
    kept: dict[int, Tensor] = {}
    blocks = smol.hf.model.layers
    hooks = [
        b.register_forward_hook(lambda _, a, out, i=i: kept.__setitem__(i, out if isinstance(out, Tensor) else out[0]))
        for i, b in enumerate(blocks)
    ]
    with torch.no_grad():
        smol.hf(clean)
    for hook in hooks:
        hook.remove()
    for layer in (0, 15, len(blocks) - 1):
        for position in range(clean.shape[1]):

            def put(_: Any, args: Any, out: Any, layer: int = layer, position: int = position) -> Any:
                x = (out if isinstance(out, Tensor) else out[0]).clone()
                x[:, position] = kept[layer][:, position]
                return x if isinstance(out, Tensor) else (x, *out[1:])

            hook = blocks[layer].register_forward_hook(put)
            with torch.no_grad():
                logits = smol.hf(corrupt).logits[0, -1]
            hook.remove()
            expected = float(logits[ids[0]] - logits[ids[1]])
            assert payload["values"]["resid_post"][layer][position] == pytest.approx(expected, abs=1e-4)
    assert len(payload["values"]["resid_post"]) == len(blocks)


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import json
    import sys

    from hooke.cli import main

    def typed(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hooke", "patch", *words, "--model", "glassllm"])
        try:
            main()
            code = 0
        except SystemExit as done:
            code = int(done.code or 0)
        out = capsys.readouterr()
        return code, out.out, out.err

    pair = ("Alice was beginning to get very", "Queen was beginning to get very")
    tokens = ("--target", " so", "--contrast", " the")
    code, out, _ = typed(*pair, *tokens, "--json", "--sites", "resid_post,z", "--out", str(tmp_path / "p.json"))
    assert code == 0
    made = json.loads(out)
    assert made["arguments"]["clean"] == pair[0] and made["arguments"]["corrupt"] == pair[1]
    assert len(made["payload"]["values"]["resid_post"]) == 4
    assert hooke.load_result(tmp_path / "p.json").id == made["id"]
    code, out, _ = typed(*pair, *tokens)
    assert code == 0 and "resid_post, per cent" in out and "layer" in out
    code, out, _ = typed(*pair, *tokens, "--edge", "m0->logits", "--json")
    assert code == 0 and json.loads(out)["payload"]["edges"][0]["edge"] == "m0->logits"
    (tmp_path / "data").write_text("Queen was beginning to get very\n")
    code, out, _ = typed(pair[0], *tokens, "--ablation", "mean", "--data", str(tmp_path / "data"), "--position", "-1")
    assert code == 0 and "the metric" in out
    (tmp_path / "data").write_bytes(b"\xef\xbb\xbfQueen was beginning to get very\r\n")  # as Windows writes it
    code, again, _ = typed(pair[0], *tokens, "--ablation", "mean", "--data", str(tmp_path / "data"), "--position", "-1")
    assert code == 0 and again == out
    code, _, error = typed(*pair)
    assert code == 2 and "both prompts are answered with" in error and "--target" in error
    for words, says in (
        ((pair[0], "The Queen of Hearts was beginning to get very"), "tokens"),
        ((*pair, "--position", "first"), "whole numbers"),
        ((*pair, "--edge", "m0->logits", "--sites", "z"), "leave the site options out"),
        ((pair[0], "--edge", "m0->logits"), "give one"),
        ((pair[0], "--ablation", "mean", "--data", "nothing.txt"), "no file"),
        ((pair[0], "--ablation", "mean", "--data", "/dev/zero"), "a device, not a file"),
        ((pair[0], "--ablation", "mean", "--data", str(tmp_path)), "a folder, not a file"),
        ((*pair, "--data", str(tmp_path / "data")), "leave --data out"),
        ((*pair, "--sites", "z,"), "comma too many"),
        ((*pair, "--metric", ""), "no metric called ''"),
        (("\udcff was", pair[1]), "not text in UTF-8"),
        ((*pair, "--out", str(tmp_path / "x.json"), "--html", str(tmp_path / "x.json")), "written twice"),
        ((*pair, "--out", str(tmp_path / "x.json"), "--html", str(tmp_path / "x.graph.json")), "written twice"),
    ):
        code, out, error = typed(*words, *tokens)
        assert code == 2 and out == "" and says in error and error.count("\n") == 1, (words, error)
