"""The page's bytes read back, scripts as modules, and text that means harm."""

from __future__ import annotations

import gzip
import importlib.util
import json
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\u0000\u2028"


def script_of(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unpacked(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The page and its tensors, read as the page reads them."""
    raw = gzip.decompress(data)
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    kinds = {"F32": np.float32, "U32": np.uint32, "U8": np.uint8}
    tensors = {
        name: np.frombuffer(raw[8 + size + e["data_offsets"][0] : 8 + size + e["data_offsets"][1]], kinds[e["dtype"]])
        for name, e in header.items()
        if name != "__metadata__"
    }
    return json.loads(header["__metadata__"]["page"]), tensors
