"""circuit-tracer on random transcoders, in its own environment: called by `bench/trace.py`.

    python circuit_tracer_peer.py MODEL_FOLDER NODES PROMPT [nnsight|transformerlens]

One random transcoder of 4,608 features a layer, biased so that about 50 features fire on each token, is
what makes its graphs comparable in size; times do not depend on what the features mean.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from circuit_tracer import ReplacementModel, attribute
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, TranscoderSet
from transformers import AutoModelForCausalLM, AutoTokenizer

WIDTH, ACTIVE = 4608, 50


def main() -> None:
    folder, nodes, prompt = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    backend = sys.argv[4] if len(sys.argv) > 4 else "nnsight"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    hf = AutoModelForCausalLM.from_pretrained(folder)
    inputs: dict[int, torch.Tensor] = {}
    for layer, block in enumerate(hf.model.layers):
        block.post_attention_layernorm.register_forward_hook(
            lambda _, __, out, layer=layer: inputs.__setitem__(layer, out.detach()[0])
        )
    with torch.no_grad():
        hf(ids, use_cache=False)
    generator = torch.Generator().manual_seed(0)
    transcoders = {}
    for layer, x in inputs.items():
        d = x.shape[1]
        coder = SingleLayerTranscoder(d, WIDTH, torch.relu, layer, device=torch.device("cpu"), dtype=torch.float32)
        encoder = torch.randn(WIDTH, d, generator=generator) / d**0.5
        fires = (x[1:] @ encoder.T).flatten().topk(ACTIVE * (len(x) - 1)).values[-1]
        coder.W_enc.data = encoder
        coder.W_dec.data = torch.randn(WIDTH, d, generator=generator) * 0.02 / d**0.5
        coder.b_enc.data = torch.full((WIDTH,), -float(fires))
        transcoders[layer] = coder
    start = time.perf_counter()
    options = {}
    if backend == "transformerlens":
        import transformer_lens.loading_from_pretrained as names

        names.OFFICIAL_MODEL_NAMES.append(folder)  # it refuses a local folder by name
        options = {"hf_model": hf, "tokenizer": tokenizer}
    model = ReplacementModel.from_pretrained_and_transcoders(
        folder,
        TranscoderSet(transcoders, "mlp.hook_in", "mlp.hook_out"),
        backend=backend,
        device=torch.device("cpu"),
        dtype=torch.float32,
        **options,
    )
    build = time.perf_counter() - start
    start = time.perf_counter()
    attribute(ids[0], model, max_n_logits=10, batch_size=64, max_feature_nodes=nodes, verbose=False)
    seconds = time.perf_counter() - start
    print(json.dumps({"backend": backend, "build": build, "graph": seconds, "nodes": nodes}))


if __name__ == "__main__":
    main()
