"""A residual sweep with TransformerLens or nnsight, in its own environment: called by `bench/patch.py`.

    python patch_peer.py transformer_lens|nnsight MODEL_FOLDER PROMPT LENGTH THREADS

Prints one line of JSON: seconds of processor time and on the clock for all (layer, position) patches, with the
library's own function where it has one and batched by position.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def spent(call: Callable[[], object]) -> list[float]:
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return [round(time.process_time() - cpu, 2), round(time.perf_counter() - wall, 2)]


def main() -> None:
    peer, folder, prompt, length, threads = sys.argv[1:6]
    torch.set_num_threads(int(threads))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    clean = tokenizer(prompt, return_tensors="pt").input_ids[:, -int(length) :]
    good, bad = (tokenizer(text, add_special_tokens=False).input_ids[0] for text in (" Mary", " John"))
    corrupt = clean.clone()
    corrupt[0, 0] = good
    n_layers, n_pos = hf.config.num_hidden_layers, clean.shape[1]
    row = torch.arange(n_pos)
    found: dict[str, object] = {"seconds": "processor time, clock"}
    if peer == "transformer_lens":
        import transformer_lens
        import transformer_lens.loading_from_pretrained as names
        from transformer_lens import patching

        names.OFFICIAL_MODEL_NAMES.append(folder)  # it refuses a local folder by name
        model = transformer_lens.HookedTransformer.from_pretrained_no_processing(
            folder, hf_model=hf, tokenizer=tokenizer, device="cpu", dtype=torch.float32
        )

        def own() -> None:
            with torch.no_grad():
                _, cache = model.run_with_cache(clean)
                patching.get_act_patch_resid_pre(model, corrupt, cache, lambda x: x[0, -1, good] - x[0, -1, bad])

        found["get_act_patch_resid_pre"] = spent(own)
    else:
        from nnsight import LanguageModel

        model = LanguageModel(hf, tokenizer=tokenizer)

        def batched() -> None:
            with torch.no_grad():
                with model.trace(clean):
                    kept = list().save()  # noqa: C408  (the library follows this call)
                    for block in model.model.layers:
                        kept.append(block.input)
                for layer in range(n_layers):
                    with model.trace(corrupt.expand(n_pos, -1).clone()):
                        model.model.layers[layer].input[row, row] = kept[layer][0]
                        model.lm_head.output.save()

        found["one trace a layer"] = spent(batched)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
