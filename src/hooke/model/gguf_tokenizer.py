"""A GGUF file's tokenizer as transformers reads it, made to do what the file says about how text is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hooke.model.gguf_file import GgufFile, unsupported

# How a byte-level vocabulary cuts text before merging (tokenizer.ggml.pre). Transformers knows many of these
# ways but not the ones that first cut out each digit: it would give other ids for "\n\n1." than the model saw.
_DIGITS_FIRST = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
_KINDS = {"llama": "phi3", "gemma3": "gemma3_text"}  # transformers' name of the tokenizer; Llama's is a plain one
# ways of cutting with which llama.cpp begins a text with a token and takes whole words before it merges, unasked
_WHOLE_FIRST = {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken"}
_PLAIN_GPT2 = {"gpt-2", "mpt", "olmo", "jais", "trillion", "granite-docling"}


def read_tokenizer(file: GgufFile, path: Path) -> tuple[Any, str]:
    """The tokenizer, and a note for the person ("" if there is nothing to say).

    Raises HookeError, naming the key, where it would cut text otherwise than the file says.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    # by its kind: left to find that out, transformers reads the whole header again, slowly
    kind = _KINDS.get(file.arch, file.arch)
    tokenizer = AutoTokenizer.from_pretrained(
        path.parent, gguf_file=path.name, tokenizer_type=kind, local_files_only=True
    )
    said = {key.removeprefix("tokenizer.ggml."): value for key, value in file.other.items()}
    backend = tokenizer.backend_tokenizer
    note, split = "", str(said.get("pre", "default"))
    if isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        if split in _DIGITS_FIRST:
            steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
        elif split not in _PLAIN_GPT2:
            note = f"cuts text its own way ({split}), read here as GPT-2's: check its tokens"
    begins = said.get("model") == "llama"
    if said.get("model") == "gpt2" and split in _WHOLE_FIRST:
        backend.model.ignore_merges = begins = True
        if said.get("add_bos_token", True) and "bos_token_id" in said:
            tokenizer.add_bos_token = True
    if said.get("model") == "llama":
        _set_space(file, tokenizer, wanted=bool(said.get("add_space_prefix", not file.arch.startswith("gemma"))))
    rows = file.tensors["token_embd.weight"].shape[0]
    count = len(said.get("tokens", ()))  # transformers may add special tokens of its own beyond these
    if count > rows:
        raise unsupported(file, "tokenizer.ggml.tokens", f"{count} tokens for an embedding of {rows} rows")
    _check_ends(file, tokenizer, said, begins)
    return tokenizer, note


def _set_space(file: GgufFile, tokenizer: Any, *, wanted: bool) -> None:
    """A space before a text, or none: transformers decides it by the architecture and not by what the file says."""
    from tokenizers import decoders, normalizers, pre_tokenizers

    def found() -> bool:
        return "".join(tokenizer.tokenize("a")).startswith("▁")

    if found() and not wanted:
        backend = tokenizer.backend_tokenizer
        backend.normalizer = normalizers.Replace(" ", "▁")
        if isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace):
            backend.pre_tokenizer = None
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    if found() != wanted:
        raise unsupported(file, "tokenizer.ggml.add_space_prefix", f"{wanted}, and transformers does otherwise")


def _check_ends(file: GgufFile, tokenizer: Any, said: dict[str, Any], begins: bool) -> None:
    """Raise HookeError unless special tokens are put around a text as the file says (begins: where it is silent)."""
    inner, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    begin = [said["bos_token_id"]] if said.get("add_bos_token", begins) and "bos_token_id" in said else []
    end = [said["eos_token_id"]] if said.get("add_eos_token", False) and "eos_token_id" in said else []
    if whole != [*begin, *inner, *end]:
        key = "add_bos_token" if whole[: len(begin)] != begin or whole[-len(inner) :] == inner else "add_eos_token"
        raise unsupported(file, f"tokenizer.ggml.{key}", f"{said.get(key)}, and transformers does otherwise")
