"""Files of a data set on the hub: found by split, measured, then fetched into the ordinary hub cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hooke.errors import HookeError

MOST_BYTES = 512 * 2**20  # of one file, and of all texts together once they are unpacked
SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")  # of the files that rows are read from
SHARD = re.compile(r"-\d{5}-of-\d{5}(?=\.\w+$)")


def fetch(name: str) -> tuple[list[Path], str]:
    """The local files of "hub:org/name" or "hub:org/name/split", in order, and what they are with their commit.

    A data set of one file, or of the pieces of one, needs no split. Files are only fetched, never run. HF_ENDPOINT
    and the token of the hub's own client apply. Raises HookeError if there is none, too many, too much, or no way.
    """
    parts = name.removeprefix("hub:").split("/")
    if len(parts) not in (2, 3) or not all(re.fullmatch(r"\w[\w.-]*", part) for part in parts):
        raise HookeError(f"{name!r} is no data set on the hub; write hub:org/name or hub:org/name/split")
    repo, split = "/".join(parts[:2]), parts[2] if len(parts) == 3 else ""

    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,  # of whichever HTTP client this version stands on
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        info = api.dataset_info(repo, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        chosen = choose(sorted(sizes), name, split)
        total = sum(sizes[file] for file in chosen)
        if total > MOST_BYTES:
            raise HookeError(f"{name} has {total >> 20:,} MB; at most {MOST_BYTES >> 20} MB are read")
        commit = info.sha or "main"
        got = [Path(api.hf_hub_download(repo, file, repo_type="dataset", revision=commit)) for file in chosen]
    except GatedRepoError:
        raise HookeError(f"{name} is gated: accept its terms on the hub and log in with `hf auth login`") from None
    except RepositoryNotFoundError:
        raise HookeError(f"there is no data set {repo} on the hub, or it is private; check the name") from None
    except (OfflineModeIsEnabled, LocalEntryNotFoundError):
        raise HookeError(f"{name} cannot be fetched offline; unset HF_HUB_OFFLINE, or give a local file") from None
    except (HTTPError, HFValidationError, OSError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HookeError(f"{name} cannot be fetched from the hub: {why}") from None
    return got, f"{name}, commit {commit[:12]}"


def choose(files: list[str], name: str, split: str) -> list[str]:
    """The files to read: those whose path names the split, all pieces of one table."""
    readable = [file for file in files if file.lower().endswith(SUFFIXES)]
    if not readable:
        raise HookeError(f"{name} holds no file that can be read ({', '.join(SUFFIXES)})")
    named = re.compile(rf"(^|[/_.-]){re.escape(split)}([/_.-]|$)")
    fitting = [file for file in readable if named.search(file)] if split else readable
    tables: dict[str, list[str]] = {}
    for file in fitting:
        tables.setdefault(SHARD.sub("", file), []).append(file)
    if len(tables) == 1:
        return next(iter(tables.values()))
    listed = ", ".join(sorted({SHARD.sub("", file) for file in readable})[:8])
    if not tables:
        raise HookeError(f"{name} has no file of the split {split!r}; there are {listed}")
    raise HookeError(f"{name} has {len(tables)} tables: {listed}; say which with hub:org/name/split")
