"""Record what the built page was built from, so that a stale bundle is noticed without Node.

python scripts/page_build.py    (`make web` runs it after the build)
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "web"
STATIC = ROOT / "src" / "hooke" / "viewer" / "static"
BUILD = STATIC / "BUILD.json"
BUILT = ("THIRD_PARTY.txt", "index.html", "page.js")
CONFIGS = ("package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")


def sources() -> list[Path]:
    """What the bundle is made of."""
    return sorted([*(p for p in (WEB / "src").rglob("*") if p.is_file()), *(WEB / name for name in CONFIGS)])


def record() -> dict[str, object]:
    """One hash of all sources, and hash and size of each file that goes with the page."""
    digest = hashlib.sha256()
    for path in sources():
        text = path.read_bytes().replace(b"\r\n", b"\n")  # a Windows checkout is the same source
        digest.update(f"{path.relative_to(WEB).as_posix()}\0{hashlib.sha256(text).hexdigest()}\n".encode())
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in (STATIC / name for name in BUILT)
    }
    return {"sources_sha256": digest.hexdigest(), "files": files}


if __name__ == "__main__":
    BUILD.write_text(json.dumps(record(), indent=1) + "\n", encoding="utf-8")
    print(f"{BUILD.relative_to(ROOT)} written")
