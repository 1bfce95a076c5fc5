"""Tiny random dictionaries that another tool writes, or reads, in its own environment: called by `bench/formats.py`.

    python formats_peer.py saelens|sparsify|dictionary_learning|circuit_tracer write FOLDER
    python formats_peer.py saelens|sparsify|circuit_tracer read FOLDER

write: one folder a case, as the tool saves it, and beside it CASE.expected.safetensors with inputs `x.0`, …, and the
tool's own codes `codes.0`, … (one of each a block) and reconstructions `y.0`, … (one a place that is written). Files of
Gemma Scope, Qwen-Scope and Llama Scope are put together here as they are published, and SAELens reads them.
read: for every folder in FOLDER, what the tool makes of CASE.inputs.safetensors, as CASE.theirs.safetensors.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from formats_published import parts, random, whole, write_published
from safetensors.torch import load_file, save_file
from torch import Tensor

WIDTH, N, K, ROWS, LAYERS = 8, 24, 5, 8, 3
warnings.simplefilter("ignore")


def shaken(module: Any, seed: int) -> Any:
    """The same module with all its parameters random, thresholds above zero."""
    with torch.no_grad():
        for i, (name, parameter) in enumerate(sorted(module.named_parameters())):
            value = random(seed * 100 + i, *parameter.shape) * (0.5 if parameter.ndim > 1 else 0.3)
            parameter.copy_(value.abs() + 0.2 if "threshold" in name else value)
    return module.eval()


def expect(out: Path, case: str, xs: list[Tensor], codes: list[Tensor], ys: list[Tensor]) -> None:
    named = {"x": xs, "codes": codes, "y": ys}
    tensors = {
        f"{name}.{i}": x.detach().float().contiguous() for name, some in named.items() for i, x in enumerate(some)
    }
    save_file({name: x.clone() for name, x in tensors.items()}, str(out / f"{case}.expected.safetensors"))
    print(f"{case}: {sum(int((x != 0).sum()) for x in codes)} codes", file=sys.stderr)


# ---- SAELens -----------------------------------------------------------------------------------

TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")


def sae_of(kind: str, seed: int, hook: str = "blocks.1.hook_resid_post", **settings: Any) -> Any:
    """A random inference SAE of SAELens."""
    from sae_lens.registry import get_sae_class
    from sae_lens.saes.sae import SAEMetadata

    cls, config = get_sae_class(kind)
    about = {"model_name": "tiny", "hook_name": hook, "sae_lens_version": "6.54.12", "prepend_bos": True}
    if kind in TRANSCODERS:
        settings = {"d_out": WIDTH, "apply_b_dec_to_input": False} | settings
        about |= {"hook_name": "blocks.1.mlp.hook_in", "hook_name_out": "blocks.1.hook_mlp_out"}
    return shaken(cls(config(d_in=WIDTH, d_sae=N, metadata=SAEMetadata(**about), **settings)), seed)


SAES: dict[str, tuple[str, dict[str, Any]]] = {
    "standard": ("standard", {}),
    "standard_uncentred": ("standard", {"apply_b_dec_to_input": False}),
    "gated": ("gated", {}),
    "jumprelu": ("jumprelu", {"apply_b_dec_to_input": False}),
    "topk": ("topk", {"k": K}),
    "topk_rescaled": ("topk", {"k": K, "rescale_acts_by_decoder_norm": True}),
    "abstopk": ("abstopk", {"k": K}),
    "abstopk_rescaled": ("abstopk", {"k": K, "rescale_acts_by_decoder_norm": True}),
    "layer_norm": ("standard", {"normalize_activations": "layer_norm"}),
    "constant_norm": ("topk", {"k": K, "normalize_activations": "constant_norm_rescale"}),
    "layer_norm_transcoder": ("skip_transcoder", {"normalize_activations": "layer_norm"}),
    **{kind: (kind, {}) for kind in TRANSCODERS},
}


def write_saelens(out: Path) -> None:
    for seed, (case, (kind, settings)) in enumerate(SAES.items(), 1):
        sae, x = sae_of(kind, seed, **settings), random(seed, ROWS, WIDTH)
        codes, y = whole(sae, x)
        sae.save_model(out / case)
        expect(out, case, [x], [codes], [y])
    z = random(77, ROWS, 2, WIDTH // 2)
    sae = sae_of("standard", 77, "blocks.1.attn.hook_z", reshape_activations="hook_z")
    codes, y = whole(sae, z)
    sae.save_model(out / "hook_z")
    expect(out, "hook_z", [z.flatten(1)], [codes], [y.flatten(1)])
    write_scaled(out)
    write_trained(out)
    write_legacy(out)
    write_published(out, expect)


def write_scaled(out: Path) -> None:
    """Trained on scaled and on whitened activations: what SAELens leaves beside a checkpoint."""
    from sae_lens.training.activation_scaler import ActivationScaler, ActivationWhitening

    matrix = random(78, WIDTH, WIDTH).double() / 3 + torch.eye(WIDTH, dtype=torch.float64)
    whitening = ActivationWhitening(random(79, WIDTH).double(), matrix, torch.linalg.inv(matrix))
    cases = {
        "scaled": ("expected_average_only_in", ActivationScaler(scaling_factor=0.37), "jumprelu", {}),
        "whitened": ("covariance_whitening", ActivationScaler(whitening=whitening), "standard", {}),
        "whitened_topk": (
            "covariance_whitening", ActivationScaler(whitening=whitening), "topk",
            {"k": K, "rescale_acts_by_decoder_norm": True, "apply_b_dec_to_input": False},
        ),
    }  # fmt: skip
    for seed, (case, (norm, scaler, kind, settings)) in enumerate(cases.items(), 80):
        sae, x = sae_of(kind, seed, normalize_activations=norm, **settings), random(seed, ROWS, WIDTH)
        inner = scaler.scale(x.double()).float()
        codes, y = whole(sae, inner)
        sae.save_model(out / case)
        scaler.save(str(out / case / "activation_scaler.json"))
        expect(out, case, [x], [codes], [scaler.unscale(y.double())])


def write_trained(out: Path) -> None:
    """BatchTopK and Matryoshka as saved for inference and as a checkpoint; log thresholds of old checkpoints."""
    from sae_lens import SAE
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.sae import SAEMetadata

    about = {"model_name": "tiny", "hook_name": "blocks.1.hook_resid_post", "sae_lens_version": "6.54.12"}
    settings: dict[str, dict[str, Any]] = {
        "batchtopk": {"k": K},
        "matryoshka_batchtopk": {"k": K, "matryoshka_widths": [8, N]},
    }
    for seed, (kind, own) in enumerate(settings.items(), 85):
        cls, config = get_sae_training_class(kind)
        sae = shaken(cls(config(d_in=WIDTH, d_sae=N, metadata=SAEMetadata(**about), **own)), seed)
        sae.topk_threshold.fill_(0.4)
        x = random(seed, ROWS, WIDTH)
        sae.save_inference_model(out / kind)
        sae.save_model(out / f"{kind}_checkpoint")
        codes, y = whole(SAE.load_from_disk(out / kind), x)
        expect(out, kind, [x], [codes], [y])
        expect(out, f"{kind}_checkpoint", [x], [codes], [y])
    sae, x = sae_of("jumprelu", 88), random(88, ROWS, WIDTH)
    codes, y = whole(sae, x)
    sae.save_model(out / "log_threshold")
    weights = load_file(out / "log_threshold" / "sae_weights.safetensors")
    weights["log_threshold"] = weights.pop("threshold").log()
    save_file(weights, str(out / "log_threshold" / "sae_weights.safetensors"))
    expect(out, "log_threshold", [x], [codes], [y])


def write_legacy(out: Path) -> None:
    """Flat configs of versions before 6, which no current version writes; SAELens reads them."""
    from sae_lens import SAE

    flat: dict[str, Any] = {
        "d_in": WIDTH, "d_sae": N, "dtype": "torch.float32", "device": "cpu", "model_name": "tiny",
        "hook_point_layer": 1, "hook_point": "blocks.1.hook_resid_pre", "hook_point_head_index": None,
        "normalize_activations": False,
    }  # fmt: skip
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "legacy": ("standard", {}),
        "legacy_topk": ("topk", {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}),
        "legacy_gated": (
            "gated",
            {"architecture": "gated", "sae_lens_version": "4.1.0", "normalize_activations": None},
        ),
        "legacy_z": ("standard", {"hook_point": "blocks.1.attn.hook_z"}),
    }
    for seed, (case, (kind, own)) in enumerate(kinds.items(), 90):
        sae_of(kind, seed).save_model(out / case)
        (out / case / "cfg.json").write_text(json.dumps(flat | own))
        weights = load_file(out / case / "sae_weights.safetensors")
        save_file(weights | {"scaling_factor": torch.ones(N)}, str(out / case / "sae_weights.safetensors"))
        sae = SAE.load_from_disk(out / case)
        x = random(seed, ROWS, *((2, WIDTH // 2) if case == "legacy_z" else (WIDTH,)))
        codes, y = whole(sae, x)
        expect(out, case, [x.flatten(1)], [codes], [y.flatten(1)])


def read_saelens(case: Path, xs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    from sae_lens import SAE

    folders = [case] if (case / "cfg.json").is_file() else sorted(path.parent for path in case.glob("*/cfg.json"))
    found = []
    for folder, x in zip(folders, xs, strict=True):
        config = json.loads((folder / "cfg.json").read_text())
        heads = config["reshape_activations"] == "hook_z"
        codes, y = whole(SAE.load_from_disk(folder), x.unflatten(1, (2, -1)) if heads else x)
        found.append((codes, y.flatten(1)))
    return [codes for codes, _ in found], [y for _, y in found]


# ---- sparsify ----------------------------------------------------------------------------------


def write_sparsify(out: Path) -> None:
    from sparsify import SparseCoder
    from sparsify.config import SparseCoderConfig

    cases: dict[str, dict[str, Any]] = {
        "topk/layers.1": {"k": K},
        "topk_mlp/layers.1.mlp": {"k": K, "num_latents": N, "expansion_factor": 1},
        "groupmax/layers_1": {"k": 6, "activation": "groupmax"},
        "transcoder/layers.1.mlp": {"k": K, "transcode": True},
        "skip_transcoder/layers.1.mlp": {"k": K, "transcode": True, "skip_connection": True},
    }
    for seed, (name, settings) in enumerate(cases.items(), 200):
        config = SparseCoderConfig(**{"expansion_factor": N // WIDTH} | settings)
        coder, x = shaken(SparseCoder(WIDTH, config), seed), random(seed, ROWS, WIDTH)
        coder.save_to_disk(out / name)
        (out / name).parent.joinpath("config.json").write_text(json.dumps({"model": "tiny", "sae": config.to_dict()}))
        expect(out, name.split("/")[0], *coded(coder, x))


def coded(coder: Any, x: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Inputs, and codes and reconstructions of a coder of sparsify."""
    with torch.no_grad():
        found = coder(x)
    codes = torch.zeros(len(x), coder.num_latents).scatter(1, found.latent_indices, found.latent_acts)
    return [x], [codes], [found.sae_out]


def read_sparsify(case: Path, xs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    from sparsify import SparseCoder

    found = [
        coded(coder, x) for coder, x in zip(SparseCoder.load_many(str(case), local=True).values(), xs, strict=True)
    ]
    return [codes for _, (codes,), _ in found], [y for _, _, (y,) in found]


# ---- dictionary_learning -----------------------------------------------------------------------


def write_dictionary_learning(out: Path) -> None:
    from dictionary_learning import dictionary as plain
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    made: list[Any] = [cls(WIDTH, N) for cls in (plain.AutoEncoder, plain.AutoEncoderNew)]
    made += [plain.GatedAutoEncoder(WIDTH, N), plain.JumpReluAutoEncoder(WIDTH, N), AutoEncoderTopK(WIDTH, N, K)]
    made += [BatchTopKSAE(WIDTH, N, K), MatryoshkaBatchTopKSAE(WIDTH, N, K, [8, 16])]
    for seed, coder in enumerate(made, 300):
        shaken(coder, seed)
        case, x = type(coder).__name__, random(seed, ROWS, WIDTH)
        if hasattr(coder, "k") and case != "AutoEncoderTopK":
            coder.threshold.fill_(0.4)
        place = out / case / "trainer_0"
        place.mkdir(parents=True, exist_ok=True)
        torch.save(
            {key: value.cpu() for key, value in coder.state_dict().items()}, place / "ae.pt"
        )  # as `trainSAE` does
        trainer = {
            "trainer_class": "T",
            "dict_class": case,
            "activation_dim": WIDTH,
            "dict_size": N,
            "layer": 1,
            "k": K,
        }
        trainer |= {"lm_name": "tiny", "submodule_name": "resid_post_layer_1", "steps": 1, "lr": 0.1}
        (place / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 16}}))
        with torch.no_grad():
            codes = coder.encode(x)
            expect(out, case, [x], [codes], [coder.decode(codes)])


# ---- circuit-tracer ----------------------------------------------------------------------------

HOOKS = ("mlp.hook_in", "hook_mlp_out")


def write_circuit_tracer(out: Path) -> None:
    from circuit_tracer.transcoder.activation_functions import JumpReLU
    from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder
    from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, TranscoderSet

    plain: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32}
    for seed, (case, skip) in enumerate(
        {"per_layer": False, "per_layer_jumprelu": False, "per_layer_skip": True}.items(), 400
    ):
        gates = [JumpReLU(torch.zeros(N), 0.1) if "jump" in case else torch.relu for _ in range(LAYERS)]
        made = [SingleLayerTranscoder(WIDTH, N, gate, i, skip_connection=skip, **plain) for i, gate in enumerate(gates)]
        group = TranscoderSet({i: shaken(one, seed * 10 + i) for i, one in enumerate(made)}, *HOOKS, scan="tiny")
        group.to_safetensors(str(out / case))
        configure(out / case, "transcoder_set")
        x = random(seed, LAYERS, ROWS, WIDTH)
        with torch.no_grad():
            codes = group.encode(x)
            expect(out, case, list(x), list(codes), list(group.decode(codes, x)))
    for seed, (case, gate) in enumerate({"cross_layer": "relu", "cross_layer_jumprelu": "jump_relu"}.items(), 410):
        clt = CrossLayerTranscoder(LAYERS, N, WIDTH, gate, False, False, False, *HOOKS, **plain)
        shaken(clt, seed).to_safetensors(str(out / case))
        configure(out / case, "cross_layer_transcoder")
        x = random(seed, LAYERS, ROWS, WIDTH)
        with torch.no_grad():
            codes = clt.encode(x)
            expect(out, case, list(x), list(codes), list(clt.decode(codes.to_sparse(), x)))
    write_gemma_scope_clt(out)


def configure(folder: Path, kind: str) -> None:
    import yaml

    config = {"model_kind": kind, "model_name": "tiny", "scan": "tiny"}
    config |= dict(zip(("feature_input_hook", "feature_output_hook"), HOOKS, strict=True))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def write_gemma_scope_clt(out: Path) -> None:
    """The cross-layer transcoder of Gemma Scope 2, as published, read by circuit-tracer, whose loader leaves out the
    last of the paths it is given: it is given one too many."""
    from circuit_tracer.transcoder.cross_layer_transcoder import load_gemma_scope_2_clt

    case = "gemma-scope-2-clt"
    place, paths = out / case / "clt" / "width_262k_l0_medium_affine", {}
    place.mkdir(parents=True, exist_ok=True)
    for layer in range(LAYERS):
        raw = {name.lower() if name.startswith("W") else name: x for name, x in parts(4200 + 10 * layer).items()}
        raw["w_dec"] = random(4300 + layer, N, LAYERS, WIDTH)
        raw["affine_skip_connection"] = random(4310 + layer, WIDTH, WIDTH)
        paths[layer] = str(place / f"params_layer_{layer}.safetensors")
        save_file(raw, paths[layer])
    (place / "config.json").write_text(json.dumps({"architecture": "jump_relu", "model_name": "gemma-v3-1b-pt"}))
    clt = load_gemma_scope_2_clt({**paths, LAYERS: paths[0]}, dtype=torch.float32)
    x = random(420, LAYERS, ROWS, WIDTH)
    with torch.no_grad():
        codes = clt.encode(x)
        expect(out, case, list(x), list(codes), list(clt.decode(codes.to_sparse(), x)))


def read_circuit_tracer(case: Path, xs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    from circuit_tracer.transcoder.cross_layer_transcoder import load_clt
    from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set
    from circuit_tracer.utils.hf_utils import resolve_transcoder_paths  # noqa: F401  the layout that it looks for
    from yaml import safe_load

    config, x = safe_load((case / "config.yaml").read_text()), torch.stack(xs)
    hooks = config["feature_input_hook"], config["feature_output_hook"]
    with torch.no_grad():
        if config["model_kind"] == "transcoder_set":
            files = {i: str(case / f"layer_{i}.safetensors") for i in range(len(list(case.glob("layer_*"))))}
            group = load_transcoder_set(files, config["scan"], *hooks, dtype=torch.float32)
            codes = group.encode(x)
            return list(codes), list(group.decode(codes, x))
        clt = load_clt(str(case), *hooks, dtype=torch.float32, lazy_decoder=False)
        codes = clt.encode(x)
        return list(codes), list(clt.decode(codes.to_sparse(), x))


WRITE: dict[str, Callable[[Path], None]] = {
    "saelens": write_saelens,
    "sparsify": write_sparsify,
    "dictionary_learning": write_dictionary_learning,
    "circuit_tracer": write_circuit_tracer,
}
READ: dict[str, Callable[[Path, list[Tensor]], tuple[list[Tensor], list[Tensor]]]] = {
    "saelens": read_saelens,
    "sparsify": read_sparsify,
    "circuit_tracer": read_circuit_tracer,
}


def main() -> None:
    if len(sys.argv) != 4:
        print(__doc__)
        return
    tool, way, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    torch.set_num_threads(1)
    if way == "write":
        WRITE[tool](out)
        return
    for case in sorted(path for path in out.iterdir() if path.is_dir()):
        given = load_file(out / f"{case.name}.inputs.safetensors")
        codes, ys = READ[tool](case, [given[f"x.{i}"] for i in range(len(given))])
        found = {f"codes.{i}": x for i, x in enumerate(codes)} | {f"y.{i}": x for i, x in enumerate(ys)}
        save_file(
            {name: x.contiguous().clone() for name, x in found.items()}, str(out / f"{case.name}.theirs.safetensors")
        )


if __name__ == "__main__":
    main()
