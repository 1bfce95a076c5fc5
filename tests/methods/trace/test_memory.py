"""What a trace needs: the estimate is an upper bound of the peak, and near it, where each of its parts is the largest."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# layers, heads, width, width of the MLP, tokens, nodes, form: where patterns, or rows on their way down, are the most
SHAPES = {
    "patterns": (6, 8, 64, 128, 1024, 50, "held"),
    "rows": (4, 2, 256, 1024, 512, 300, "held"),
    "live": (6, 8, 256, 512, 150, 600, "live"),
}

CODE = """
import importlib, sys, threading, time
import psutil, torch, hooke
from hooke.dictionaries import neurons
from transformers import LlamaConfig, LlamaForCausalLM

layers, heads, width, inner, n, nodes = map(int, sys.argv[1:7])
glass = hooke.load("glassllm", device="cpu")
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=glass.parts.d_vocab, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
    num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=2048,
)
model = hooke.load(LlamaForCausalLM(config).eval(), tokenizer=glass.tokenizer)
trace = importlib.import_module("hooke.methods.trace")
trace.check_memory = lambda *_: None
ids = torch.randint(10, glass.parts.d_vocab, (1, n))
hooke.trace(model, ids[:, :8], nodes=10, form=sys.argv[7])  # what only the first run takes
process, peak, going = psutil.Process(), [0], [True]
base = process.memory_info().rss

def watch():
    while going[0]:
        peak[0] = max(peak[0], process.memory_info().rss)
        time.sleep(0.003)

thread = threading.Thread(target=watch)
thread.start()
hooke.trace(model, ids, nodes=nodes, form=sys.argv[7])
going[0] = False
thread.join()
print(peak[0] - base, trace.needed_bytes(model, n, nodes, neurons(model), sys.argv[7] == "live"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted differently elsewhere")
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_estimate_is_an_upper_bound_and_near(shape):
    command = [sys.executable, "-c", CODE, *map(str, shape)]
    places = os.pathsep.join(sys.path)
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": places})
    assert done.returncode == 0, done.stderr[-2000:]
    peak, estimate = map(float, done.stdout.split())
    # the peak that is seen differs by two fifths from run to run, and by as much between makers of products (kernels.py)
    assert peak <= estimate <= 2.7 * peak + 2**25, f"{peak / 2**20:.0f} MB measured, {estimate / 2**20:.0f} estimated"
