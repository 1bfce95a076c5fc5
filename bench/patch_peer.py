"""What `bench/patch.py` times, done with TransformerLens 3 or 4 or nnsight, in their own environment: called by it.

    python patch_peer.py transformer_lens|transformer_lens_bridge|nnsight < request.json

The request: folder (of the model), clean, corrupt (token ids), answers (two ids), threads, every (n-th layer only), and
perhaps ungrouped (the folder of a model whose heads share no keys and values, for edge attribution). Prints one line of
JSON: for each task the seconds of processor time, on the clock, the number of patches and the values, to be compared.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

Tasks = dict[str, tuple[int, Callable[[], Any]]]


def spent(call: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    cpu, wall = time.process_time(), time.perf_counter()
    out = call()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}, out


def difference(logits: Tensor, answers: list[int]) -> Tensor:
    return logits[..., -1, answers[0]] - logits[..., -1, answers[1]]


def lens(model: Any, clean: Tensor, corrupt: Tensor, answers: list[int], layers: list[int]) -> Tasks:
    """TransformerLens' own sweeps, which make one run a patch, over some layers."""
    import pandas as pd
    from transformer_lens import patching

    def sweep(own: Callable[..., Any], name: str, axes: list[str], count: int) -> Tensor:
        with torch.no_grad():
            _, cache = model.run_with_cache(clean, names_filter=lambda n: n.endswith(name))
            at = pd.DataFrame([(layer, i) for layer in layers for i in range(count)], columns=axes)
            setter = own.keywords["patch_setter"]  # type: ignore[attr-defined]
            found = patching.generic_activation_patch(
                model,
                corrupt,
                cache,
                lambda logits: difference(logits, answers)[0],
                setter,
                own.keywords["activation_name"],  # type: ignore[attr-defined]
                index_df=at,
            )
        return found.view(len(layers), count)

    n_pos, heads = clean.shape[1], model.cfg.n_heads
    return {
        "resid_pre": (
            len(layers) * n_pos,
            lambda: sweep(patching.get_act_patch_resid_pre, "hook_resid_pre", ["layer", "pos"], n_pos),
        ),
        "z": (
            len(layers) * heads,
            lambda: sweep(patching.get_act_patch_attn_head_out_all_pos, "hook_z", ["layer", "head"], heads),
        ),
    }


def attribution(model: Any, clean: Tensor, corrupt: Tensor, answers: list[int]) -> Tasks:
    """TransformerLens' attribution patching of nodes: (layer, head, pos) of the heads are compared."""
    from transformer_lens.tools.analysis.attribution_patching import attribution_patch

    def nodes() -> Tensor:
        scores = attribution_patch(model, clean, corrupt, lambda x: difference(x, answers).sum()).node_scores
        out = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, clean.shape[1])
        for node, score in scores.items():
            if node.kind == "attn_head_out":
                out[node.layer, node.head, node.position] = score
        return out

    return {"attribution": (1, nodes)}


def edges(folder: str, clean: Tensor, corrupt: Tensor, answers: list[int]) -> Tasks:
    """TransformerLens 4's edge attribution, summed over positions, by the written form of edges."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.tools.analysis import attribution_patching as own

    model = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.float32)
    model.enable_compatibility_mode(disable_warnings=True, no_processing=True)

    def name(node: Any) -> str:
        if node.kind in ("embed", "logits"):
            return "input" if node.kind == "embed" else "logits"
        if node.kind.startswith("mlp"):
            return f"m{node.layer}"
        part = f"<{node.kind[0]}>" if node.kind.endswith("_input") else ""
        return f"a{node.layer}.h{node.head}{part}"

    def eap() -> dict[str, float]:
        config = own.EdgeAttributionConfig(granularity="edge")
        scores = own.attribution_patch(model, clean, corrupt, lambda x: difference(x, answers).sum(), config)
        total: dict[str, float] = {}
        for (writer, reader), score in scores.edge_scores.items():
            edge = f"{name(writer)}->{name(reader)}"
            total[edge] = total.get(edge, 0.0) + float(score)
        return total

    return {"eap": (1, eap)}


def sights(hf: Any, tokenizer: Any, clean: Tensor, corrupt: Tensor, answers: list[int], layers: list[int]) -> Tasks:
    """nnsight: a trace a layer, all positions or heads in one batch; and attribution patching written with it."""
    from nnsight import LanguageModel

    model = LanguageModel(hf, tokenizer=tokenizer)
    n_pos, heads = clean.shape[1], hf.config.num_attention_heads

    def streams(ids: Tensor) -> list[Tensor]:
        with torch.no_grad(), model.trace(ids):
            kept = list().save()  # noqa: C408  (the library follows this call)
            for block in model.model.layers:
                kept.append(block.input)
        return [x.clone() for x in kept]

    def resid() -> Tensor:
        kept, row, out = streams(clean), torch.arange(n_pos), []
        with torch.no_grad():
            for layer in layers:
                with model.trace(corrupt.expand(n_pos, -1).clone()):
                    model.model.layers[layer].input[row, row] = kept[layer][0]
                    logits = model.lm_head.output.save()
                out.append(difference(logits, answers))
        return torch.stack(out)

    def head_outputs() -> Tensor:
        row, out = torch.arange(heads), []
        with torch.no_grad():
            with model.trace(clean):
                kept = list().save()  # noqa: C408
                for block in model.model.layers:
                    kept.append(block.self_attn.o_proj.input)
            parts = [x[0].unflatten(-1, (heads, -1)).transpose(0, 1).clone() for x in kept]
            for layer in layers:
                with model.trace(corrupt.expand(heads, -1).clone()):
                    z = model.model.layers[layer].self_attn.o_proj.input.clone()
                    z.view(heads, n_pos, heads, -1)[row, :, row] = parts[layer]
                    model.model.layers[layer].self_attn.o_proj.input = z
                    logits = model.lm_head.output.save()
                out.append(difference(logits, answers))
        return torch.stack(out)

    return {"resid_pre": (len(layers) * n_pos, resid), "z": (len(layers) * heads, head_outputs)}


def main() -> None:
    peer, asked = sys.argv[1], json.load(sys.stdin)
    folder, answers = asked["folder"], asked["answers"]
    torch.set_num_threads(asked["threads"])
    clean, corrupt = torch.tensor(asked["clean"]), torch.tensor(asked["corrupt"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    layers = list(range(0, hf.config.num_hidden_layers, asked["every"]))
    tasks: Tasks = {"forward": (1, lambda: hf(corrupt, use_cache=False).logits[0, -1, answers])}
    if peer == "transformer_lens":
        import transformer_lens
        import transformer_lens.loading_from_pretrained as names

        names.OFFICIAL_MODEL_NAMES.append(folder)  # it refuses a local folder by name
        model = transformer_lens.HookedTransformer.from_pretrained_no_processing(
            folder, hf_model=hf, tokenizer=tokenizer, device="cpu", dtype=torch.float32
        )
        tasks |= lens(model, clean, corrupt, answers, layers) | attribution(model, clean, corrupt, answers)
    elif peer == "transformer_lens_bridge":
        from transformer_lens.model_bridge import TransformerBridge

        bridge = TransformerBridge.boot_transformers(folder, device="cpu", dtype=torch.float32)
        bridge.enable_compatibility_mode(disable_warnings=True, no_processing=True)
        tasks |= lens(bridge, clean, corrupt, answers, layers) | attribution(bridge, clean, corrupt, answers)
        if "ungrouped" in asked:
            tasks |= edges(asked["ungrouped"], clean, corrupt, answers)
    else:
        tasks |= sights(hf, tokenizer, clean, corrupt, answers, layers)
    found: dict[str, Any] = {}
    for name, (count, call) in tasks.items():
        try:
            with torch.no_grad() if name == "forward" else torch.enable_grad():
                if name == "forward":
                    call()  # the first is slower
                seconds, out = spent(call)
        except Exception as error:
            found[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
            continue
        values = out.tolist() if isinstance(out, Tensor) else out
        found[name] = {**seconds, "count": count, "values": values}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
