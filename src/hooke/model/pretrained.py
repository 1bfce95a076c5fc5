"""A transformers model and its tokenizer from a folder or a hub, with every file compared with what came out of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch

from hooke.errors import HookeError, visible
from hooke.files import is_file, open_file, read_json
from hooke.model.bounds import MAX_CONFIG, check_config, check_size
from hooke.model.config_check import check_kind, check_said
from hooke.model.families import FAMILIES, family_of
from hooke.model.file_check import check_files, check_finite, check_index, check_rotated
from hooke.model.store import ADAPTER_CONFIG

# The text models of these are known families and stand whole in their files: what is left out, and how names go over.
_TEXT_PARTS = {
    "gemma3": (
        r"(model\.)?(vision_tower|multi_modal_projector)\.",
        {r"^language_model\.model\.": "model.", r"^model\.language_model\.": "model.", r"^language_model\.": ""},
    )
}


def from_pretrained(source: str, revision: str | None, dtype: Any, tokenizer: Any) -> tuple[Any, Any]:
    """A frozen-in-time copy of a folder's or hub's model on the CPU, and its tokenizer (the one given, if any).

    Raises HookeError, in one line that names file and key, for damaged files and for anything that transformers would
    drop, leave random or compute otherwise than the files say.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        check_config(source, revision)
        folder = _folder(source, revision)
        raw = _said(folder)
        config = AutoConfig.from_pretrained(source, **options)
        dropped, renamed = None, None
        part = config.get_text_config()
        if part is not config:
            dropped, renamed = _text_part(config, part, source)
            raw = {**raw.get("text_config", {}), "tie_word_embeddings": config.tie_word_embeddings}
            config = part
        family_of(config)  # refuse before reading gigabytes
        check_said(raw, config, folder / "config.json")
        check_size(config, source)
        hf, report = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported below
            output_loading_info=True,
            key_mapping=renamed,
            **options,
        )
    except HookeError:
        raise
    except Exception as error:  # damaged files fail in as many ways as there are parsers
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise HookeError(f"cannot load {source!r}: {_reason(error)}") from None
    # transformers leaves these random
    absent = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if absent:
        raise HookeError(f"{source!r} lacks {len(absent)} of the weights that its config needs, as {absent[0]}")
    check_files(hf, folder, dropped=dropped)
    check_rotated(hf, folder / "config.json")
    check_finite(hf, source, cast=True)
    return hf, _tokenizer(source, folder, options) if tokenizer is None else tokenizer


def _folder(source: str, revision: str | None) -> Path:
    """Where the files are: the folder itself, or the hub's copy on this disk."""
    from transformers.utils import cached_file

    if Path(source).is_dir():
        return Path(source)
    return Path(str(cached_file(source, "config.json", revision=revision))).parent


def commit_of(source: str, revision: str | None) -> str | None:
    """The commit of a hub's model that was loaded: the name of its folder in the hub's cache on this disk."""
    folder = _folder(source, revision)
    return folder.name if folder.parent.name == "snapshots" else None


def _said(folder: Path) -> dict[str, Any]:
    """What `config.json` says, once it is clear that the folder holds one whole, unquantised language model."""
    if (folder / ADAPTER_CONFIG).exists():
        raise HookeError(
            f"{folder} holds a whole model and an adapter ({ADAPTER_CONFIG}), and it is unclear which is meant: put "
            "the adapter's two files into a folder of their own, or take them out"
        )
    raw = read_json(folder / "config.json", MAX_CONFIG, infinite=True)
    if not isinstance(raw, dict):
        raise HookeError(f"{folder / 'config.json'} is not a model's configuration: copy the model again")
    check_kind(raw, folder / "config.json")
    if (folder / "model.safetensors.index.json").exists():
        check_index(folder)
    return raw


def _text_part(config: Any, part: Any, source: str) -> tuple[str, dict[str, str]]:
    """How the text model of a multimodal one is read; said on stderr. Raises HookeError for one that is not known."""
    kind, inner = str(config.model_type), str(part.model_type)
    known = [family.name for family in FAMILIES if inner in family.model_types]
    if kind not in _TEXT_PARTS:
        hint = f"Hooke knows its text model ({known[0]}), but not this nesting" if known else "Hooke does not know it"
        what = f"a multimodal model ({visible(kind)[:40]}) around a text model ({visible(inner)[:40]})"
        raise HookeError(f"{source!r} is {what}; {hint}: save the text model as a folder of its own and give that")
    note = f"{source} is a multimodal {kind}; its text model is loaded, and what looks at pictures is left out"
    print(f"hooke: {note}", file=sys.stderr, flush=True)
    return _TEXT_PARTS[kind]


def _tokenizer(source: str, folder: Path, options: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, **options)
    except Exception as error:
        reason = _missing_package(folder) or _reason(error)
        raise HookeError(f"cannot load the tokenizer of {source!r}: {reason}; or give one with tokenizer=") from None


def _missing_package(folder: Path) -> str | None:
    """What a vocabulary needs that is not installed here; transformers names whatever it tried last."""
    file = folder / "tokenizer.model"
    if (folder / "tokenizer.json").exists() or not is_file(file):
        return None
    with open_file(file) as data:
        sentencepiece = data.read(1) == b"\n"  # the first field of its format; tiktoken's begins with a base-64 letter
    needed = ("sentencepiece", "google.protobuf") if sentencepiece else ("tiktoken",)
    lacking = []
    for package in needed:
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            lacking.append(package.removeprefix("google."))
    if not lacking:
        return None
    kind = "a SentencePiece model" if sentencepiece else "a tiktoken vocabulary"
    return f"it is {kind} (tokenizer.model only), which needs another package: pip install {' '.join(lacking)}"


def check_vocabulary(tokenizer: Any, rows: int, name: str) -> None:
    """Refuse a tokenizer whose own vocabulary goes beyond the embedding; say so where only added tokens do."""
    vocabulary = getattr(tokenizer, "get_vocab", None)
    if vocabulary is None:
        return
    beyond = sorted((i, text) for text, i in vocabulary().items() if i >= rows)
    if not beyond:
        return
    added = getattr(tokenizer, "added_tokens_decoder", {})
    own = [(i, text) for i, text in beyond if i not in added]
    if own:
        raise HookeError(
            f"the tokenizer has {len(own):,} tokens beyond the {rows:,} rows of the embedding of {name}, as "
            f"{visible(own[0][1])[:40]!r}: it belongs to another model"
        )
    note = (
        f"{len(beyond):,} added tokens of the tokenizer, as {visible(beyond[0][1])[:40]}, have no row in the embedding"
    )
    print(f"hooke: {note}; a prompt with one is refused", file=sys.stderr, flush=True)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = " ".join(line.strip() for line in lines[: 3 if lines and lines[0].rstrip().endswith(":") else 1])
    return visible(text)[:300] if text else type(error).__name__
