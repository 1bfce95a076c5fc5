"""Run the tests with the newest versions that pyproject.toml admits, in an environment of their own.

    make test-newest                         everything
    make test-newest TESTS=tests/model/test_run.py

constraints.txt says what is tested every day; this says what will break for those who install without it. When the
newest versions are the pinned ones there is nothing to test, and it says so. The environment is build/newest; pip's
own settings (index, proxy) hold.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "build" / "newest"
LIST = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep=chr(10))"


def pinned() -> dict[str, str]:
    """The versions of constraints.txt, by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("#")[0].strip().partition("==") for line in lines if "==" in line.split("#")[0])
    return {name: version for name, _, version in pairs}


def plain(name: str) -> str:
    """A name as package indexes compare it."""
    return name.lower().replace("_", "-").replace(".", "-")


def changed(listed: str) -> dict[str, tuple[str, str]]:
    """Of what is installed (lines name==version), the pinned packages that have another version: (pinned, newest)."""
    found = {plain(name): version.partition("+")[0] for name, _, version in (x.partition("==") for x in listed.split())}
    return {
        name: (version, found[plain(name)])
        for name, version in pinned().items()
        if found.get(plain(name), version) != version
    }


def main() -> int:
    python = str(HOME / ("Scripts" if os.name == "nt" else "bin") / "python")
    shutil.rmtree(HOME, ignore_errors=True)
    venv.create(HOME, with_pip=True)
    print(f"installing the newest versions into {HOME.relative_to(ROOT)}", flush=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    torch = [python, str(ROOT / "scripts" / "install_torch.py"), "--newest"]
    for command in ([*pip, "pip>=24"], torch, [*pip, "-e", f"{ROOT}[dev]"]):
        if code := subprocess.run(command).returncode:
            return code
    rows = changed(subprocess.run([python, "-c", LIST], capture_output=True, text=True, check=True).stdout)
    if not rows:
        print("The newest versions are those of constraints.txt: there is nothing else to test.")
        return 0
    for name, (old, new) in sorted(rows.items()):
        print(f"  {name} {new} (pinned: {old})")
    return subprocess.run([python, "-m", "pytest", *sys.argv[1:]], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
