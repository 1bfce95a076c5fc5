"""`hooke harvest`: what it says it keeps is what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hooke.errors import HookeError
from hooke.harvest import open_store
from hooke.methods.harvest import harvest
from hooke.model import Model


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.jsonl"
    rows = [
        f"Passage {n}. " + "The cat sat on the mat, and the dog lay down beside it. " * (3 + n % 5) for n in range(60)
    ]
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return str(path)


def test_a_harvest_says_what_it_kept_and_goes_on(glass: Model, text: str, tmp_path: Path) -> None:
    said: list[str] = []
    more = {"site": ["resid_post.1", "z.2"], "text": [text], "tokens": 2000, "shard": 600}
    first = harvest(glass, out=tmp_path / "h", say=said.append, **more)
    p = first.payload
    assert p["tokens"] == 2000 and p["shards"] == p["new"] > 2 and len(said) == 1 and "MB" in said[0]
    stored = open_store(tmp_path / "h", model=glass)
    x = torch.cat([stored.shard(n, ["z.2"]).values[stored.sites[1]] for n in range(p["shards"])])
    width = glass.parts.n_heads * glass.parts.d_head
    assert x.shape == (2000, width) and p["sites"][1]["width"] == width
    assert p["sites"][1]["mean_norm"] == pytest.approx(float(x.norm(dim=1).mean()), rel=1e-5)
    (tmp_path / "h" / "shard-00001.safetensors").unlink()
    again = harvest(glass, out=tmp_path / "h", say=said.append, **more)
    assert again.payload["new"] == 1 and again.payload["hash"] == p["hash"] and len(said) == 1


def test_bad_harvests_are_one_line(glass: Model, text: str, tmp_path: Path) -> None:
    for changes, says in (
        ({"keep": "int8"}, "kept as float32"),
        ({"site": ["resid_post.9"]}, "layer"),
        ({"site": ["pattern.1"]}, "two tokens"),
        ({"site": []}, "no site"),
        ({"tokens": 10**9}, "are asked for"),
        ({"context": 10**6}, "change the context"),
        ({"text": ["nothing.txt"]}, "nothing"),
    ):
        asked = {"site": ["resid_post.1"], "text": [text], "tokens": 500} | changes
        with pytest.raises(HookeError, match=says) as error:
            harvest(glass, out=tmp_path / "bad", **asked)
        assert "\n" not in str(error.value)
