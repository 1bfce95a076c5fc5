"""Files of Gemma Scope, Qwen-Scope and Llama Scope, put together as they are published, and what SAELens makes of them.

Called by `bench/formats_peer.py`, in SAELens's environment: nobody else can write these files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

WIDTH, N, K, ROWS = 8, 24, 5, 8
Expect = Callable[[Path, str, list[Tensor], list[Tensor], list[Tensor]], None]


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whole(sae: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and reconstructions."""
    with torch.no_grad():
        codes = sae.encode(x)
        return codes, sae(x)


def published(out: Path, folder: str, name: str, config: dict[str, Any] | None, tensors: dict[str, Tensor]) -> None:
    import numpy as np

    place = out / folder
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (place / ("hyperparams.json" if "final" in name else "config.json")).write_text(json.dumps(config))
    if name.endswith(".npz"):
        np.savez(place / name, **{key: x.numpy() for key, x in tensors.items()})
    elif name.endswith(".pt"):
        torch.save(tensors, place / name)
    else:
        save_file({key: x.contiguous() for key, x in tensors.items()}, str(place / name))


def as_saelens(out: Path, loader: str, repo: str, folder: str, scale: float | None = None, **overrides: Any) -> Any:
    """What SAELens makes of files that lie in `out / repo / folder` as they would on the hub."""
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from sae_lens.saes import sae as own

    def local(repo_id: str, filename: str, subfolder: str | None = None, **_: Any) -> str:
        path = out / repo_id.split("/")[-1] / (subfolder or "") / filename
        if not path.is_file():
            raise loaders.EntryNotFoundError(str(path))
        return str(path)

    loaders.hf_hub_download = local
    loaders.get_safetensors_tensor_shapes = lambda repo_id, name: {
        key: list(x.shape) for key, x in load_file(local(repo_id, name)).items()
    }
    own.get_norm_scaling_factor = lambda *_: scale
    chosen = getattr(loaders, loader)

    def converter(cfg_overrides: dict[str, Any], **rest: Any) -> Any:
        return chosen(cfg_overrides=cfg_overrides | {"dtype": "float32"} | overrides, **rest)

    return SAE.from_pretrained(f"nobody/{repo}", folder, converter=converter)


def parts(seed: int) -> dict[str, Tensor]:
    """Weights of a JumpReLU, as Gemma Scope names them."""
    found = {"W_enc": random(seed, WIDTH, N), "W_dec": random(seed + 1, N, WIDTH)}
    found |= {"b_enc": random(seed + 2, N) * 0.3, "b_dec": random(seed + 3, WIDTH) * 0.3}
    return found | {"threshold": random(seed + 4, N).abs() * 0.5 + 0.2}


def write_published(out: Path, expect: Expect) -> None:
    write_gemma_scope(out, expect)
    write_gemma_scope_2(out, expect)
    write_qwen_scope(out, expect)
    write_llama_scope(out, expect)


def write_gemma_scope(out: Path, expect: Expect) -> None:
    sizes = {"d_in": WIDTH, "d_sae": N}
    first = {
        "gemma-scope-2b-pt-res": "layer_1/width_16k/average_l0_9",
        "gemma-scope-2b-pt-mlp": "layer_1/width_16k/average_l0_9",
        "gemma-scope-2b-pt-att": "layer_1/width_16k/average_l0_9",
    }
    for seed, (repo, folder) in enumerate(first.items(), 100):
        published(out, f"{repo}/{folder}", "params.npz", None, parts(seed * 10))
        sae, x = as_saelens(out, "gemma_2_sae_huggingface_loader", repo, folder, **sizes), random(seed, ROWS, WIDTH)
        codes, y = whole(sae, x.unflatten(1, (2, -1)) if repo.endswith("att") else x)
        expect(out, repo, [x], [codes], [y.flatten(1)])
    repo, folder = "gemma-scope-2b-pt-transcoders", "layer_1/width_16k/average_l0_9"
    published(out, f"{repo}/{folder}", "params.npz", None, parts(2000))
    sizes_out = sizes | {"d_out": WIDTH}
    sae, x = (
        as_saelens(out, "gemma_2_transcoder_huggingface_loader", repo, folder, **sizes_out),
        random(104, ROWS, WIDTH),
    )
    codes, y = whole(sae, x)
    expect(out, repo, [x], [codes], [y])
    # of the embedding: SAELens leaves b_dec as it was, which is then in other units than what it is added to
    repo, folder = "gemma-scope-9b-pt-res", "embedding/width_4k/average_l0_9"
    published(out, f"{repo}/{folder}", "params.npz", None, parts(3000))
    sae, x = as_saelens(out, "gemma_2_sae_huggingface_loader", repo, folder, **sizes), random(105, ROWS, WIDTH)
    codes, y = whole(sae, x)
    expect(out, repo, [x], [codes], [y + sae.b_dec * (math.sqrt(WIDTH) - 1)])


def write_gemma_scope_2(out: Path, expect: Expect) -> None:
    kinds = {"resid_post": ".output", "attn_out": ".self_attn.o_proj.input", "transcoder_all": ""}
    for seed, (kind, module) in enumerate(kinds.items(), 110):
        raw, folder = parts(seed * 10), f"{kind}/layer_1_width_16k_l0_small"
        tensors = {name.lower() if name.startswith("W") else name: x for name, x in raw.items()}
        config: dict[str, Any] = {"architecture": "jump_relu", "model_name": "gemma-v3-1b-pt"}
        config["hf_hook_point_in"] = f"model.layers.1{module or '.pre_feedforward_layernorm.output'}"
        if not module:
            config |= {
                "hf_hook_point_out": "model.layers.1.post_feedforward_layernorm.output",
                "affine_connection": True,
            }
            tensors["affine_skip_connection"] = random(seed, WIDTH, WIDTH)
        repo = f"gemma-scope-2-1b-pt-{kind}"
        published(out, f"{repo}/{folder}", "params.safetensors", config, tensors)
        sae, x = as_saelens(out, "gemma_3_sae_huggingface_loader", repo, folder), random(seed, ROWS, WIDTH)
        codes, y = whole(sae, x)
        expect(out, repo, [x], [codes], [y])


def write_qwen_scope(out: Path, expect: Expect) -> None:
    repo = f"SAE-Res-Qwen3-1.7B-Base-W32K-L0_{K}"
    tensors = {"W_enc": random(1200, N, WIDTH), "W_dec": random(1201, WIDTH, N)}
    published(out, repo, "layer1.sae.pt", None, tensors | {"b_enc": random(1202, N), "b_dec": random(1203, WIDTH)})
    sizes = {"d_in": WIDTH, "d_sae": N}
    sae, x = (
        as_saelens(out, "qwen_scope_sae_huggingface_loader", repo, "layer1.sae.pt", **sizes),
        random(120, ROWS, WIDTH),
    )
    codes, y = whole(sae, x)
    expect(out, repo, [x], [codes], [y])


def write_llama_scope(out: Path, expect: Expect) -> None:
    """SAELens does not weigh features by what they write; where the file says so, the formula is written out here."""
    for seed, (case, weighed) in enumerate({"llama-scope": False, "llama-scope-weighed": True}.items(), 130):
        hyper = {
            "d_model": WIDTH, "d_sae": N, "jump_relu_threshold": 0.3, "act_fn": "jumprelu",
            "norm_activation": "dataset-wise",
            "dataset_average_activation_norm": {"in": 4.0, "out": 4.0}, "sparsity_include_decoder_norm": weighed,
            "hook_point_in": "blocks.1.hook_resid_post", "hook_point_out": "blocks.1.hook_resid_post",
        }  # fmt: skip
        tensors = {"encoder.weight": random(seed * 10, N, WIDTH), "encoder.bias": random(seed * 10 + 1, N)}
        tensors |= {"decoder.weight": random(seed * 10 + 2, WIDTH, N), "decoder.bias": random(seed * 10 + 3, WIDTH)}
        published(out, f"{case}/L1R", "checkpoints/final.safetensors", hyper, tensors)
        x, s = random(seed, ROWS, WIDTH), math.sqrt(WIDTH) / 4.0
        if weighed:
            h = s * x @ tensors["encoder.weight"].T + tensors["encoder.bias"]
            codes = torch.where(h / s * tensors["decoder.weight"].norm(dim=0) > 0.3, h.relu(), 0.0)
            y = (codes @ tensors["decoder.weight"].T + tensors["decoder.bias"]) / s
        else:
            codes, y = whole(as_saelens(out, "llama_scope_sae_huggingface_loader", case, "L1R", s), x)
        expect(out, case, [x], [codes], [y])
    tensors = {"encoder.weight": random(1320, N, WIDTH), "encoder.bias": random(1321, N)}
    tensors |= {"decoder.weight": random(1322, WIDTH, N), "decoder.bias": random(1323, WIDTH)}
    tensors["log_jumprelu_threshold"] = random(1324, N) * 0.3 - 1
    config = {
        "sae_type": "sae",
        "d_model": WIDTH,
        "expansion_factor": 3,
        "act_fn": "jumprelu",
        "norm_activation": "inference",
    }
    config |= {"hook_point_in": "blocks.1.hook_resid_post", "sparsity_include_decoder_norm": False}
    published(out, "llama-scope-r1/L1R", "sae_weights.safetensors", config, tensors)
    sae = as_saelens(out, "llama_scope_r1_distill_sae_huggingface_loader", "llama-scope-r1", "L1R")
    x = random(133, ROWS, WIDTH)
    codes, y = whole(sae, x)
    expect(out, "llama-scope-r1", [x], [codes], [y])
