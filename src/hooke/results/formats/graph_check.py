"""Checking attribution-graph files: every fault is one line that names the node or link."""

from __future__ import annotations

import math
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hooke.errors import HookeError
from hooke.results.graph import Form, Kind, Part
from hooke.results.payloads.common import Called
from hooke.results.verdicts import Verdict

MAX_NODES, MAX_LINKS, MAX_TOKENS = 200_000, 2_000_000, 1_000_000
HEAVIEST = 1e30  # weights beyond this are not measurements, and do not fit float32
FEATURE_TYPES = {
    "cross layer transcoder",
    "mlp reconstruction error",
    "embedding",
    "logit",
    "lorsa",
    "lorsa error",
    "bias",
    "unknown",
}
NAME = re.compile(r"[A-Za-z0-9_.-]+")
LOGIT_LABEL = re.compile(r'Output "[^"]*" \(p=[0-9]+(\.[0-9]+)?\)')
REQUIRED = ("node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp")
M = TypeVar("M", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class FileContrast(_Model):
    """`hooke.contrast` of a logit."""

    token: str
    id: int


class FileOwn(_Model):
    """`hooke` of a node: what only we know."""

    kind: Kind | None = None
    value: float | None = None
    delta: float | None = None
    total: float | None = None
    averaged: float | None = None
    rank: int | None = None
    share: float = 0.0
    dropped: float | None = None
    verdict: Verdict = "untested"
    reason: str = ""
    reads: list[str] = Field(default_factory=list)
    promotes: list[str] = Field(default_factory=list)
    suppresses: list[str] = Field(default_factory=list)
    contrast: FileContrast | None = None
    target: bool = False
    index: int | None = None
    key: int | None = None
    seen: float | None = None
    jump: float | None = None
    position: int | None = 0
    parts: dict[Part, float] = Field(default_factory=dict)  # of a head in a circuit: `dropped` by input


class FileLinkPart(_Model):
    """The share of a link that enters one input of a head."""

    part: Part
    weight: float = Field(ge=-HEAVIEST, le=HEAVIEST)
    verdict: Verdict = "untested"


class FileLinkOwn(_Model):
    """`hooke` of a link."""

    verdict: Verdict = "untested"
    delta: float | None = Field(default=None, ge=-HEAVIEST, le=HEAVIEST)
    parts: list[FileLinkPart] = Field(default_factory=list, max_length=4)


class FileNode(_Model):
    """One node, of any dialect."""

    node_id: str = Field(min_length=1, max_length=1000)
    jsNodeId: str = ""
    feature: int | float | str | None = None
    layer: int | str
    ctx_idx: int = Field(ge=-(10**7), le=10**7)
    feature_type: str
    clerp: str | None = ""
    token: str | None = None
    token_prob: float | None = None
    is_target_logit: bool | None = None
    influence: float | None = None
    activation: float | None = None
    hooke: FileOwn | None = None


class FileLinkCount(_Model):
    """`links` of the `hooke` of a graph."""

    of: int = Field(ge=0, le=10**12)


class FileGraphOwn(_Model):
    """`hooke` of the metadata, as far as a page reads it."""

    links: FileLinkCount | None = None
    scores: dict[str, Any] | None = None
    units: Called = "neurons"  # of a graph of ours; files of before hold no other
    form: Form = "held"


class FileMetadata(_Model):
    """What every dialect has in its metadata."""

    slug: str
    scan: str
    prompt: str
    prompt_tokens: list[str] = Field(max_length=MAX_TOKENS)
    node_threshold: float | None = None
    schema_version: int | None = None
    hooke: FileGraphOwn | None = None


def check_graph_file(data: Any, *, dialects: bool = False) -> None:
    """Raise HookeError, in one line, unless `data` is a graph file that the published pages open as it stands.

    With `dialects`, accept what those pages and their older versions have written too: names with other
    characters, node types of their own, missing labels and influences, links to nodes that are not there,
    and an error that shares its id with a feature.
    """
    parse(data, dialects=dialects)


def parse(data: Any, *, dialects: bool) -> tuple[FileMetadata, list[FileNode]]:
    """The checks of `check_graph_file`; returns metadata and nodes in typed form."""
    if not isinstance(data, dict):
        raise HookeError(f"a graph file holds one object, not {_type(data)}")
    for key, kind in (("metadata", dict), ("qParams", dict), ("nodes", list), ("links", list)):
        if key not in data:
            raise HookeError(f"not a graph file: no {key!r} in it")
        if not isinstance(data[key], kind):
            raise HookeError(f"{key!r} of a graph file must be {_type(kind())}, not {_type(data[key])}")
    for key, most in (("nodes", MAX_NODES), ("links", MAX_LINKS)):
        if len(data[key]) > most:
            raise HookeError(f"{len(data[key]):,} {key}; graph files over {most:,} {key} are not read")
    metadata = _model(FileMetadata, data["metadata"], "metadata")
    if not dialects:
        _check_metadata(metadata, data)
    nodes = [_node(number, raw, metadata, dialects) for number, raw in enumerate(data["nodes"])]
    _check_ids(nodes, dialects)
    _check_links(data["links"], {node.node_id for node in nodes}, dialects)
    return metadata, nodes


def quote(text: object) -> str:
    """An id from a file, as it may stand in a one-line message."""
    short = ascii(text)
    return short if len(short) <= 80 else short[:77] + "..."


def _check_metadata(metadata: FileMetadata, data: dict[str, Any]) -> None:
    for key in ("slug", "scan"):
        value = getattr(metadata, key)
        if not NAME.fullmatch(value) or value.startswith("."):
            raise HookeError(f"metadata: {key} {quote(value)} may only hold letters, digits, '_', '.' and '-'")
    if metadata.schema_version != 1:
        raise HookeError(f"metadata: schema_version must be 1, not {metadata.schema_version}")
    for key in ("node_threshold", "replacement_score", "completeness_score"):
        value = data["metadata"].get(key, 0.0)
        if not _finite(value) or not 0 <= value <= 1:
            raise HookeError(f"metadata: {key} must be a number from 0 to 1")
    params = data["qParams"]
    pinned, groups = params.get("pinnedIds", []), params.get("supernodes", [])
    if not _texts(pinned):
        raise HookeError("qParams: pinnedIds must be a list of node ids")
    if not (isinstance(groups, list) and all(_texts(group) and group for group in groups)):
        raise HookeError("qParams: supernodes must be a list of [name, node id, ...]")
    for key in ("linkType", "clickedId", "sg_pos"):
        if not isinstance(params.get(key, ""), str):
            raise HookeError(f"qParams: {key} must be text")


def _node(number: int, raw: Any, metadata: FileMetadata, dialects: bool) -> FileNode:
    where = f"node {number}"
    if isinstance(raw, dict) and isinstance(raw.get("node_id"), str):
        where += f" ({quote(raw['node_id'])})"
    node = _model(FileNode, raw, where)
    if isinstance(node.feature, int) and abs(node.feature) > 2**53:
        raise HookeError(f"{where}: the number in feature is beyond what a page can count")
    if dialects:
        return node
    for key in REQUIRED:
        if key not in raw:
            raise HookeError(f"{where}: no {key!r}")
    if isinstance(node.feature, str | float):
        raise HookeError(f"{where}: feature must be a whole number or null")
    if node.feature_type not in FEATURE_TYPES:
        raise HookeError(f"{where}: unknown feature_type {quote(node.feature_type)}")
    if node.influence is None or not 0 <= node.influence <= 1:
        raise HookeError(f"{where}: influence must be a number from 0 to 1; pages hide a node without it")
    if not 0 <= node.ctx_idx < len(metadata.prompt_tokens):
        raise HookeError(f"{where}: ctx_idx {node.ctx_idx} is not one of {len(metadata.prompt_tokens)} prompt tokens")
    if node.clerp is None:
        raise HookeError(f"{where}: clerp must be text")
    if node.feature_type in ("cross layer transcoder", "lorsa") and (node.feature is None or node.feature < 0):
        raise HookeError(f"{where}: a feature needs a number of 0 or more in 'feature'")
    if node.feature_type == "embedding":
        if node.layer != "E":
            raise HookeError(f"{where}: the layer of an embedding is 'E', not {quote(node.layer)}")
    elif not re.fullmatch(r"[0-9]{1,6}", str(node.layer)):
        raise HookeError(f"{where}: layer {quote(node.layer)} is not a number")
    if node.feature_type == "logit":
        if not LOGIT_LABEL.fullmatch(node.clerp):
            raise HookeError(
                f'{where}: the label of a logit must read Output "token" (p=0.123), not {quote(node.clerp)}'
            )
        if node.token_prob is None or not 0 <= node.token_prob <= 1:
            raise HookeError(f"{where}: token_prob of a logit must be a number from 0 to 1")
    return node


def _check_ids(nodes: list[FileNode], dialects: bool) -> None:
    seen: dict[tuple[str, str], int] = {}
    for number, node in enumerate(nodes):
        key = (node.node_id, node.feature_type if dialects else "")
        if key in seen:
            raise HookeError(f"node {number}: the id {quote(node.node_id)} is also that of node {seen[key]}")
        seen[key] = number


def _check_links(links: list[Any], ids: set[str], dialects: bool) -> None:
    seen: dict[tuple[str, str], int] = {}
    for number, link in enumerate(links):
        where = f"link {number}"
        if not isinstance(link, dict):
            raise HookeError(f"{where} is not an object")
        for key in ("source", "target"):
            end = link.get(key)
            if not isinstance(end, str):
                raise HookeError(f"{where}: {key} must be a node id, as text")
            if not dialects and end not in ids:
                raise HookeError(f"{where}: no node {quote(end)}, its {key}")
        weight: Any = link.get("weight")
        if not _finite(weight):
            raise HookeError(
                f"{where} ({quote(link['source'])} to {quote(link['target'])}): weight is not a finite number"
            )
        if not abs(weight) <= HEAVIEST:
            raise HookeError(f"{where}: weight {weight:.3g} is too large to be one")
        if link.get("hooke") is not None:
            parts = [p.part for p in _model(FileLinkOwn, link["hooke"], f"{where}: hooke").parts]
            if len(set(parts)) < len(parts):
                raise HookeError(f"{where}: hooke: a part of the target stands there twice")
        if not dialects:
            pair = (link["source"], link["target"])
            if pair in seen:
                raise HookeError(f"{where} repeats link {seen[pair]} ({quote(pair[0])} to {quote(pair[1])})")
            seen[pair] = number


def _model(model: type[M], raw: Any, where: str) -> M:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        parts = [str(part) for part in first["loc"] if str(part) not in ("int", "float", "str")]
        message = " ".join(first["msg"].split())
        raise HookeError(": ".join([where, *([".".join(parts)] if parts else []), message])) from None


def _finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value.bit_length() < 1000 if isinstance(value, int) else math.isfinite(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _type(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", type(None): "null"}.get(type(value), "a single value")
