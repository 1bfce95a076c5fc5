"""Plans and their shards, against one plain forward pass of transformers a piece."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from hooke import HookeError, Model, Site
from hooke.harvest import Plan, load_plan, plan, save_plan, shard, widths
from hooke.harvest import stream as streams
from hooke.harvest.batches import steady_tokens

SITES = ("resid_pre.0", "z.1", "mlp_in.1", "mlp_act.2", "mlp_out.2", "resid_post.2")


@pytest.fixture(scope="module")
def begun(glass: Model) -> Model:
    """The tiny model with a tokenizer that puts its first token before every text."""
    tokenizer = copy.deepcopy(glass.tokenizer)
    first = tokenizer.convert_ids_to_tokens(2)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{first} $A", special_tokens=[(first, 2)])
    return Model(glass.hf, tokenizer, name="begun")


def texts_of(book: str) -> list[str]:
    return [json.loads(line)["text"] for line in Path(book).read_text(encoding="utf-8").splitlines()]


def slow_pieces(model: Model, book: str, n_tokens: int, context: int, special: list[int]) -> list[tuple]:
    """(passage, start, ids) of pieces, the obvious way."""
    found, left = [], n_tokens
    for number, text in enumerate(texts_of(book)):
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        room = context - len(special)
        for at in range(0, len(ids), room):
            own = ids[at : at + room][:left]
            if own:
                found.append((number, at, tuple(special + own)))
                left -= len(own)
    return found


def plain_values(model: Model, ids: list[int]) -> dict[str, torch.Tensor]:
    """What the sites hold for one piece, by hooks on the modules of transformers."""
    layers, kept, handles = model.hf.model.layers, {}, []

    def into(module, name: str, *, entering: bool) -> None:
        if entering:

            def hook(_, args, kwargs):
                kept[name] = (args[0] if args else kwargs["hidden_states"])[0]

            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        else:

            def after(_, args, output):
                kept[name] = (output if torch.is_tensor(output) else output[0])[0]

            handles.append(module.register_forward_hook(after))

    into(layers[0], "resid_pre.0", entering=True)
    into(layers[1].self_attn.o_proj, "z.1", entering=True)
    into(layers[1].mlp, "mlp_in.1", entering=True)
    into(layers[2].mlp.down_proj, "mlp_act.2", entering=True)
    into(layers[2].mlp, "mlp_out.2", entering=False)
    into(layers[2], "resid_post.2", entering=False)
    with torch.no_grad():
        model.hf(input_ids=torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return kept


@pytest.mark.parametrize("which", ["glass", "begun"])
@pytest.mark.parametrize("context", [16, 128])
def test_a_plan_holds_every_token_once(which: str, context: int, book: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    special = [2] if which == "begun" else []
    made = plan(model, [book], n_tokens=700, context=context, shard_tokens=200, seed=3)
    slow = slow_pieces(model, book, 700, context, special)
    pieces = [
        (int(made.document[i]), int(made.start[i]), tuple(made.piece(i).tolist())) for i in range(len(made.document))
    ]
    assert sorted(pieces) == sorted(slow) and pieces != slow
    assert made.skip == len(special) and made.n_tokens == 700 and set(made.sources) == {"book.jsonl"}
    assert len(made.sources) == max(made.document) + 1
    assert [i for part in made.shards for i in part] == list(range(len(pieces)))
    kept = [made.kept(number) for number in range(len(made.shards))]
    assert sum(kept) == 700 and len(kept) == round(700 / 200) and max(kept) - min(kept) <= 2 * context
    assert made.texts["passages"] == len(made.sources) and made.texts["sources"] == ["book.jsonl"]


def test_a_plan_is_a_function_of_what_is_asked(glass: Model, book: str) -> None:
    first, again = (plan(glass, [book], n_tokens=300, context=32, seed=1) for _ in range(2))
    assert first.hash == again.hash and np.array_equal(first.ids, again.ids)
    others = [
        plan(glass, [book], n_tokens=300, context=32, seed=2),
        plan(glass, [book], n_tokens=301, context=32, seed=1),
        plan(glass, [book], n_tokens=300, context=33, seed=1),
        plan(glass, [book], n_tokens=300, context=32, seed=1, shard_tokens=100),
    ]
    assert len({first.hash, *(other.hash for other in others)}) == 5


def test_a_plan_lies_in_a_file(glass: Model, book: str, tmp_path: Path) -> None:
    made = plan(glass, [book], n_tokens=300, context=32, shard_tokens=100)
    save_plan(made, tmp_path / "plan")
    again = load_plan(tmp_path / "plan")
    assert again.hash == made.hash and again.shards == made.shards and again.sources == made.sources
    for name in ("ids", "offsets", "document", "start"):
        assert np.array_equal(getattr(again, name), getattr(made, name))
    data = (tmp_path / "plan").read_bytes()
    for broken in (data[:-5], data[:-4] + b"\x01\x02\x03\x04", b"", b"x" * 100):
        (tmp_path / "broken").write_bytes(broken)
        with pytest.raises(HookeError):
            load_plan(tmp_path / "broken")


@pytest.mark.parametrize("which", ["glass", "begun"])
def test_a_shard_is_one_plain_pass_a_piece(which: str, book: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    made = plan(model, [book], n_tokens=900, context=40, shard_tokens=450)
    everything = []
    for number in range(len(made.shards)):
        found = shard(model, made, number, SITES)
        assert len(found) == made.kept(number) and list(map(str, found.values)) == list(SITES)
        rows = {(int(d), int(p)): i for i, (d, p) in enumerate(zip(found.document, found.position, strict=True))}
        assert len(rows) == len(found)
        everything += list(rows)
        for i in made.shards[number]:
            ids = made.piece(i).tolist()
            values = plain_values(model, ids)
            own = range(made.skip, len(ids))
            at = [rows[int(made.document[i]), int(made.start[i]) + j - made.skip] for j in own]
            assert found.ids[at].tolist() == ids[made.skip :]
            for site in SITES:
                x = values[site][made.skip :]
                scale = float(x.abs().max())
                assert (found.values[Site.parse(site)][at] - x).abs().max() < 1e-5 * scale
    assert len(set(everything)) == 900


def test_rows_are_shuffled_and_come_out_the_same(glass: Model, book: str) -> None:
    made = plan(glass, [book], n_tokens=900, context=40, shard_tokens=450)
    first, again = (shard(glass, made, 1, ["resid_post.1"]) for _ in range(2))
    site = Site("resid_post", 1)
    assert torch.equal(first.values[site], again.values[site]) and torch.equal(first.ids, again.ids)
    follows = (first.document[1:] == first.document[:-1]) & (first.position[1:] == first.position[:-1] + 1)
    assert float(follows.float().mean()) < 0.05
    wide = shard(glass, made, 1, ["mlp_out.3", "resid_post.1", "mlp_in.0"])
    assert torch.equal(wide.values[site], first.values[site])  # whatever else is read
    half = shard(glass, made, 1, ["resid_post.1"], dtype=torch.bfloat16)
    assert torch.equal(half.values[site], first.values[site].to(torch.bfloat16))


def test_free_memory_changes_nothing(glass: Model, book: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    made = plan(glass, [book], n_tokens=900, context=40)
    before = shard(glass, made, 0, ["resid_post.1"])
    size = steady_tokens(glass)
    little = psutil.virtual_memory()._replace(available=64 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    assert steady_tokens(glass) == size
    after = shard(glass, made, 0, ["resid_post.1"])
    assert torch.equal(before.values[Site("resid_post", 1)], after.values[Site("resid_post", 1)])


def test_nothing_beyond_the_last_site_is_run(glass: Model, book: str) -> None:
    made = plan(glass, [book], n_tokens=100, context=40)
    ran = []
    layers = glass.hf.model.layers
    handles = [layer.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, layer in enumerate(layers)] + [
        glass.hf.lm_head.register_forward_hook(lambda *_: ran.append("unembedding"))
    ]
    try:
        shard(glass, made, 0, ["mlp_out.1", "resid_pre.0"])
    finally:
        for handle in handles:
            handle.remove()
    assert set(ran) == {0}  # and the block that was being run when all was read never ended


def test_widths_are_those_of_the_values(glass: Model, book: str) -> None:
    made = plan(glass, [book], n_tokens=20, context=40)
    sites = [site for site in glass.sites if site.point not in ("scores", "pattern")]
    found = shard(glass, made, 0, sites)
    assert {site: x.shape[1] for site, x in found.values.items()} == widths(glass, sites)


def test_progress_is_told(glass: Model, book: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    made = plan(glass, [book], n_tokens=900, context=40, progress=told.append)
    assert told == sorted(told) and told[-1] == 1
    told.clear()
    monkeypatch.setattr(streams, "steady_tokens", lambda model: 200)
    shard(glass, made, 0, ["resid_post.0"], progress=told.append)
    assert told == sorted(told) and told[-1] == 1 and len(told) > 3


def test_what_cannot_be_planned_is_refused(glass: Model, book: str) -> None:
    with pytest.raises(HookeError, match=r"holds [\d,]+ tokens and 1,000,000 are asked for; ask for"):
        plan(glass, [book], n_tokens=1_000_000, context=64)
    with pytest.raises(HookeError, match="at least one token, not 0"):
        plan(glass, [book], n_tokens=0, context=64)
    with pytest.raises(HookeError, match="reads 1 to 128"):
        plan(glass, [book], n_tokens=10, context=129)
    with pytest.raises(HookeError, match="reads 1 to 128"):
        plan(glass, [book], n_tokens=10, context=0)
    with pytest.raises(HookeError, match="has no tokenizer"):
        plan(Model(glass.hf, None, name="bare"), [book], n_tokens=10)


def test_what_cannot_be_read_is_refused(glass: Model, book: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Plan = plan(glass, [book], n_tokens=100, context=40)
    for sites, message in (
        ([], "no site is given"),
        (["resid_post.99"], "has 4 layers"),
        (["pattern.0"], "a vector a token"),
        (["nothing.1"], "no point called"),
        (["attn_post_scale.0"], "no norm after attention"),
    ):
        with pytest.raises(HookeError, match=message):
            shard(glass, made, 0, sites)
    monkeypatch.setattr(streams, "budget", lambda device: type("Little", (), {"free": 1000})())
    with pytest.raises(HookeError, match="ask for smaller shards"):
        shard(glass, made, 0, ["resid_post.0"])


# ---- the model's own text ------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["glass", "begun"])
def test_the_models_own_text(which: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    made, again = (plan(model, ["self"], n_tokens=600, context=24, seed=5) for _ in range(2))
    assert made.hash == again.hash and set(made.sources) == {"self"} and made.n_tokens == 600
    assert plan(model, ["self"], n_tokens=600, context=24, seed=6).hash != made.hash
    assert not np.isin(made.ids[made.offsets[:-1]], [2]).all() or made.skip == 1
    end = set(model.end_ids())
    assert not end & set(made.ids.tolist())
    x = torch.tensor(made.ids[: made.offsets[4]].astype(np.int64))
    assert len(set(x.tolist())) > 8  # drawn, not one token again and again


def test_own_and_other_text_take_turns(glass: Model, book: str) -> None:
    made = plan(glass, ["self", book], n_tokens=800, context=24)
    own = np.array([source == "self" for source in made.sources])[made.document]
    kept = np.diff(made.offsets) - made.skip
    assert 0.3 < kept[own].sum() / kept.sum() < 0.7


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_own_text_has_the_share_that_is_asked_for(glass: Model, book: str, share: float) -> None:
    made = plan(glass, [f"self:{share}", book], n_tokens=800, context=24)
    own = np.array([source == "self" for source in made.sources])[made.document]
    kept = np.diff(made.offsets) - made.skip
    assert share - 0.1 < kept[own].sum() / kept.sum() < share + 0.1


def test_a_small_share_of_own_text_ends_with_the_others(glass: Model, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("A text of a few words, and then it ends. " * 8)
    with pytest.raises(HookeError, match="are asked for"):
        plan(glass, ["self:0.2", str(short)], n_tokens=5000, context=24)
    assert plan(glass, ["self", str(short)], n_tokens=2000, context=24).n_tokens == 2000


@pytest.mark.parametrize("bad", ["self:0", "self:1", "self:-0.1", "self:x", "self:nan", "self:inf"])
def test_a_share_that_is_none(glass: Model, book: str, bad: str) -> None:
    with pytest.raises(HookeError, match="no share of the text"):
        plan(glass, [bad, book], n_tokens=100, context=24)


def test_own_text_twice(glass: Model, book: str) -> None:
    with pytest.raises(HookeError, match="twice"):
        plan(glass, ["self", "self:0.1", book], n_tokens=100, context=24)


def test_a_shard_of_the_default_model(smol: Model) -> None:
    """With grouped heads, pieces of the installed documentation, and what the terminal would show of them."""
    made = plan(smol, ["docs"], n_tokens=400, context=128, shard_tokens=400)
    found = shard(smol, made, 0, ["resid_post.3", "mlp_out.3"])
    rows = {(int(d), int(p)): i for i, (d, p) in enumerate(zip(found.document, found.position, strict=True))}
    layer, kept = smol.hf.model.layers[3], {}
    handles = [
        layer.register_forward_hook(lambda _, a, out: kept.update(resid_post=out if torch.is_tensor(out) else out[0])),
        layer.mlp.register_forward_hook(lambda _, a, out: kept.update(mlp_out=out)),
    ]
    try:
        for i in range(len(made.document)):
            ids = made.piece(i).tolist()
            with torch.no_grad():
                smol.hf(input_ids=torch.tensor([ids]), use_cache=False)
            at = [rows[int(made.document[i]), int(made.start[i]) + j] for j in range(len(ids))]
            for point, x in kept.items():
                assert (found.values[Site(point, 3)][at] - x[0]).abs().max() < 1e-5 * float(x.abs().max())
    finally:
        for handle in handles:
            handle.remove()
