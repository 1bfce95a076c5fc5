"""Foreign weights in, a folder that plain transformers loads out.

Two sources: a GGUF file (its parts in `gguf_*.py`) and the small NumPy models of the package
glassllm. Torch and transformers are imported inside the functions, so importing this is free.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import mmap
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hooke.errors import HookeError, visible
from hooke.files import open_file

# GGUF's scalar value types: number -> struct code. 8 is a string and 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# sizes that no model has without a tensor as long
_WIDTHS = (
    ".vocab_size", ".embedding_length", ".feed_forward_length", ".attention.head_count", ".attention.head_count_kv",
    ".attention.key_length", ".attention.value_length", ".rope.dimension_count",
)  # fmt: skip


def gguf_header(path: Path) -> dict[str, Any]:
    """Read a GGUF file's header and check that all of its tensors are there.

    Returns its scalar and text metadata (arrays are skipped), with ``parameters``, the number of
    weights, added. Raises HookeError for a file that is not GGUF, is cut short, or is one of several.
    """
    try:
        with open_file(path) as file:
            if file.read(4) != b"GGUF":
                raise HookeError(f"{path} is not a GGUF file: give the .gguf file itself, or a folder with safetensors")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header, size = _read_gguf(path, data), len(data)
    except (struct.error, ValueError, LookupError, OverflowError):
        raise HookeError(f"{path} is damaged or cut short inside its header: download it again") from None
    except OSError as error:
        raise HookeError(f"cannot read {path} ({error.strerror or error}): check the path") from None
    end = header.pop("end")
    if size < end:
        raise HookeError(f"{path} is cut short ({size:,} bytes of at least {end:,}): download it again")
    parts = header.get("split.count", 1)
    if not isinstance(parts, int) or parts < 0:
        raise HookeError(
            f"{path} says split.count is {visible(str(parts))[:40]}, which is no number: download it again"
        )
    if parts > 1:
        raise HookeError(f"{path} is one part of several: join them first with `llama-gguf-split --merge`")
    return header


def _read_gguf(path: Path, data: mmap.mmap) -> dict[str, Any]:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    at = 4

    def take(code: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from("<" + code, data, at)
        at += struct.calcsize("<" + code)
        return value

    def text() -> str:
        nonlocal at
        length = take("Q")
        if at + length > len(data):
            raise ValueError("text past the end")
        at += length
        return data[at - length : at].decode("utf-8")

    def skip_array() -> None:
        nonlocal at
        kind, count = take("I"), take("Q")
        if kind == _STRING:
            for _ in range(count):
                (length,) = struct.unpack_from("<Q", data, at)
                at += 8 + length
        else:
            at += count * struct.calcsize("<" + _SCALARS[kind])

    version = take("I")
    if version not in (2, 3):
        raise HookeError(f"{path} has GGUF version {version}, Hooke reads 2 and 3: convert it with a current llama.cpp")
    tensors, keys = take("Q"), take("Q")
    header: dict[str, Any] = {}
    for _ in range(keys):
        key, kind = text(), take("I")
        if kind == _ARRAY:
            skip_array()
        elif kind == _STRING:
            header[key] = text()
        elif kind in _SCALARS:
            header[key] = take(_SCALARS[kind])
        else:
            raise ValueError(f"value type {kind}")
    parameters = last = 0
    longest = 1
    for _ in range(tensors):
        text()
        dimensions = take("I")
        if dimensions > 8:
            raise ValueError(f"{dimensions} dimensions")
        shape = [take("Q") for _ in range(dimensions)]
        kind, offset = take("I"), take("Q")
        count = 1
        for width in shape:
            count *= width
            longest = max(longest, width)
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        parameters += count
        last = max(last, offset + count // block * size)
    align = int(header.get("general.alignment", 32)) or 32
    header["end"] = (at + align - 1) // align * align + last
    header["parameters"] = parameters
    for key, value in header.items():  # a small file must not ask for a large model
        most = tensors if key.endswith(".block_count") else longest if key.endswith(_WIDTHS) else None
        if most is not None and not (isinstance(value, int) and 0 <= value <= most):
            asked = f"{visible(key)[:80]} is {visible(str(value))[:40]}"
            raise HookeError(f"{path} says {asked}, and its tensors allow at most {most:,}: download it again")
    return header


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back transformers' own bars and notes; ours is the one bar on the screen."""
    from transformers.utils import logging as notes

    level = notes.get_verbosity()
    notes.set_verbosity(logging.ERROR)
    try:
        # not all of its bars can be switched off, but all of them write here
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        notes.set_verbosity(level)


def gguf_to_folder(path: Path, out: Path) -> None:
    """Write the model and tokenizer of a GGUF file into the folder ``out``, weights exactly as dequantised.

    Raises HookeError, naming the key or tensor, for what a transformers model cannot compute exactly, and when
    transformers cannot read the tokenizer.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from hooke.model.gguf_config import check_keys, config_of
    from hooke.model.gguf_file import read_file
    from hooke.model.gguf_tokenizer import read_tokenizer
    from hooke.model.gguf_weights import parameters_of

    gguf_header(path)  # whole, before anything is built from it
    file = read_file(path)
    check_keys(file)
    with _quiet():
        try:
            config = config_of(file)
            with torch.device("meta"):
                model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            state = parameters_of(file, model)
            model.load_state_dict(_smallest_exact(state), assign=True, strict=True)
            model.tie_weights()
            model.save_pretrained(out)
            tokenizer, note = read_tokenizer(file, path)
            tokenizer.save_pretrained(out)
        except HookeError:
            raise
        except Exception as error:  # whatever transformers raises, the person gets one line
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise HookeError(
                f"transformers cannot load {path}: {reason} Use this model's safetensors folder instead."
            ) from error
    # computed in fp32 whatever it is stored in: as exact as the GGUF file, on any device
    stored = json.loads((out / "config.json").read_text(encoding="utf-8"))
    stored["dtype"] = "float32"
    (out / "config.json").write_text(json.dumps(stored, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if note:
        print(f"hooke: {path.name} {note}", file=sys.stderr, flush=True)


def _smallest_exact(state: dict[str, Any]) -> dict[str, Any]:
    """The tensors in the smallest dtype that holds them all exactly: half for F16 files, fp32 for most 4-bit ones."""
    import torch

    for dtype in (torch.bfloat16, torch.float16):
        if all(torch.equal(weight.to(dtype).to(weight.dtype), weight) for weight in state.values()):
            return {name: weight.to(dtype) for name, weight in state.items()}
    return state


# glassllm's parameter names inside a block -> Llama's. Its matrices are (in, out), Llama's (out, in).
_GLASS_NAMES = {
    "norm1.gamma": "input_layernorm",
    "norm2.gamma": "post_attention_layernorm",
    "attn.W_Q": "self_attn.q_proj",
    "attn.W_K": "self_attn.k_proj",
    "attn.W_V": "self_attn.v_proj",
    "attn.W_O": "self_attn.o_proj",
    "ffn.W1": "mlp.gate_proj",
    "ffn.W3": "mlp.up_proj",
    "ffn.W2": "mlp.down_proj",
}


def glassllm_to_folder(npz: Path, tokenizer_json: Path, out: Path) -> None:
    """Write a glassllm model as a LlamaForCausalLM folder with a fast tokenizer into ``out``.

    Raises ValueError when an array of the file has no place in a Llama.
    """
    import numpy as np
    from safetensors.numpy import save_file
    from transformers import GenerationConfig, LlamaConfig

    with np.load(npz) as arrays:
        sizes = json.loads(str(arrays["__config__"]))
        found = {name: arrays[name].astype(np.float32) for name in arrays.files if name != "__config__"}
    head_dim = sizes["d_model"] // sizes["n_heads"]
    weights = {"model.embed_tokens.weight": found.pop("E"), "model.norm.weight": found.pop("norm_f.gamma")}
    for name, value in found.items():
        match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if match is None or match[2] not in _GLASS_NAMES:
            raise ValueError(f"glassllm array {name} is unknown")
        if match[2] in ("attn.W_Q", "attn.W_K"):
            value = _pairs_to_halves(value, head_dim)
        weights[f"model.layers.{match[1]}.{_GLASS_NAMES[match[2]]}.weight"] = np.ascontiguousarray(value.T)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})

    tokenizer = _glassllm_tokenizer(tokenizer_json, sizes["max_len"])
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    LlamaConfig(
        architectures=["LlamaForCausalLM"],
        dtype="float32",
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["d_model"],
        intermediate_size=int(8 * sizes["d_model"] / 3),
        num_hidden_layers=sizes["n_layers"],
        num_attention_heads=sizes["n_heads"],
        num_key_value_heads=sizes["n_kv_heads"],
        head_dim=head_dim,
        max_position_embeddings=sizes["max_len"],
        rms_norm_eps=sizes["eps"],
        rope_parameters={"rope_type": "default", "rope_theta": sizes["rope_base"]},
        tie_word_embeddings=True,
        **special,
    ).save_pretrained(out)
    GenerationConfig(**special).save_pretrained(out)
    tokenizer.save_pretrained(out)


def _pairs_to_halves(matrix: Any, head_dim: int) -> Any:
    """Reorder each head's columns: glassllm rotates neighbours (0,1), (2,3) …, Llama rotates i with i + half."""
    rows, columns = matrix.shape
    heads = matrix.reshape(rows, columns // head_dim, head_dim // 2, 2)
    return heads.transpose(0, 1, 3, 2).reshape(rows, columns)


def _glassllm_tokenizer(path: Path, max_length: int) -> Any:
    """Character BPE over NFC text with spaces shown as ▁; merges never cross a word or a newline."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    data = json.loads(path.read_text(encoding="utf-8"))
    merges = [(left, right) for left, right in data["merges"]]
    special = ["<pad>", "<unk>", "<bos>", "<eos>"]
    vocab = special + data["alphabet"] + [left + right for left, right in merges]
    bpe = models.BPE(vocab={token: i for i, token in enumerate(vocab)}, merges=merges, unk_token="<unk>")
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|▁*[^▁\n]+|▁+"), behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    names = {f"{token.strip('<>')}_token": token for token in special}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        **names,
    )
