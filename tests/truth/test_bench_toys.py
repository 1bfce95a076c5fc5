"""`hooke bench toys` says what is known of the toy models, and not of random ones."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from hooke.cli import app


def test_the_tools_return_what_is_there() -> None:
    run = CliRunner().invoke(app, ["bench", "toys", "--json"])
    assert run.exit_code == 0, run.output
    result = json.loads(run.stdout)
    assert [claim["verdict"] for claim in result["claims"]] == ["tested"] * 3
    sums, found, shared = (result["payload"][key] for key in ("modular", "induction", "superposition"))
    assert sums["explained"] > 0.95 and 1 <= len(sums["key_frequencies"]) <= 6 and sums["right"] > 0.99
    assert sums["random"]["explained"] < 0.2 and not sums["random"]["key_frequencies"]
    assert found["heads"] == ["a1.h0", "a1.h1"] and found["gain_without"] < 0.3 * found["gain"]
    assert max(max(row) for row in found["random"]["prefix_matching"]) < 0.2 and abs(found["random"]["gain"]) < 0.5
    assert [s["as_known"] for s in shared] == [True] * 3
    assert shared[0]["plateaus"] == {"antipodal pair": 10, "not learned": 10}
    assert shared[0]["random"]["near"] < 8
