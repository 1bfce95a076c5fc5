"""Put torch into an environment: the CPU build on a machine without an NVIDIA GPU.

    python scripts/install_torch.py --plan     says what `make` will download and how much disk it takes
    .venv/bin/python scripts/install_torch.py  installs torch into the environment of that Python
    (--newest: not the version of constraints.txt but the newest that pyproject.toml admits)

On Linux the standard wheel of torch is the CUDA build, which is gigabytes. So without a GPU this takes, in
order: what is there already; a CPU wheel that pip finds by itself (a folder of wheels, a mirror); the CPU
wheel of pytorch.org. If none of these can be had it stops and says so, unless TORCH=any is set.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# (what, MB downloaded, MB on disk), measured on a first installation on Linux; the CUDA build was not measured
CPU_TORCH = ("torch, CPU build", 195, 780)
REST = ("the other packages", 75, 540)
MODEL = ("the model SmolLM2-135M-Instruct (4-bit, kept in your cache folder)", 93, 542)


def requirement() -> str:
    """The pinned version, e.g. torch==2.13.0, from constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line.split("#")[0].strip() for line in lines if line.startswith("torch=="))


def newest() -> str:
    """The versions that pyproject.toml admits, e.g. torch>=2.13,<3."""
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    return next(line for line in wanted if line.startswith("torch>"))


def has_nvidia() -> bool:
    """Whether a working NVIDIA driver lists a GPU."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    try:
        listed = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout


def needs_cpu_wheel() -> bool:
    """Only on Linux is the standard wheel a CUDA build."""
    return platform.system() == "Linux" and not has_nvidia() and os.environ.get("TORCH") != "any"


def plan() -> int:
    """Print what a first `make demo` downloads; 1 when the disk has no room for it."""
    if (ROOT / ".venv" / ".installed").exists():
        print("The environment .venv is there. Downloaded now: what has changed, and the model if it is missing.")
        return 0
    cuda = platform.system() == "Linux" and (has_nvidia() or os.environ.get("TORCH") == "any")
    rows = [REST, MODEL] if cuda else [CPU_TORCH, REST, MODEL]
    total = ("together" + (", without torch" if cuda else ""), sum(r[1] for r in rows), sum(r[2] for r in rows))
    print("This will download, once, about:\n")
    if cuda:
        print("  several GB                   torch, CUDA build with its libraries")
    for what, download, disk in [*rows, total]:
        print(f"  {download:>5} MB  ({disk:>5} MB on disk)  {what}")
    print(f"\nThe packages go to {ROOT / '.venv'}; nothing outside it and your cache folders is touched.")
    if cuda and not has_nvidia():
        print("TORCH=any: the standard build of torch. It is the CUDA build unless your package index has another.")
    elif cuda:
        print("An NVIDIA GPU was found, so torch comes with CUDA.")
    need = CPU_TORCH[2] + REST[2]
    free = shutil.disk_usage(ROOT).free // 1_000_000
    if free < need:
        print(f"\nThe packages need about {need} MB on this disk and {free} MB are free: make room and try again.")
        return 1
    print(flush=True)
    return 0


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    # no word but errors: what is going on is said here, in a line
    command = [sys.executable, "-m", "pip", *arguments, "-qq", "--disable-pip-version-check"]
    return subprocess.run(command, text=True, stdout=subprocess.PIPE if "--report" in arguments else None)


def installed(version: str) -> bool:
    """Whether this environment has the version already, in any build that fits the machine."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        found = version_of("torch")
    except PackageNotFoundError:
        return False
    return found.partition("+")[0] == version


def is_cpu_wheel(report: str) -> bool:
    """Whether the wheel that pip chose is marked as a CPU build, or lies on this machine."""
    try:
        chosen = json.loads(report)["install"][0]
        return chosen["metadata"]["version"].endswith("+cpu") or chosen["download_info"]["url"].startswith("file:")
    except (ValueError, KeyError, IndexError, TypeError):
        return False


def main() -> int:
    if "--plan" in sys.argv[1:]:
        return plan()
    torch = newest() if "--newest" in sys.argv[1:] else requirement()
    if "==" in torch and installed(torch.partition("==")[2]):
        return 0
    if not needs_cpu_wheel():
        print(f"Installing {torch} …", flush=True)
        return pip("install", torch).returncode
    dry = pip("install", "--dry-run", "--no-deps", "--ignore-installed", "--report", "-", torch)
    if dry.returncode == 0 and is_cpu_wheel(dry.stdout):
        print(f"Installing {torch}, the CPU build …", flush=True)
        return pip("install", torch).returncode
    print(f"No NVIDIA GPU here: taking the CPU build of {torch} from {CPU_INDEX} …", flush=True)
    # only the wheel itself: what it needs comes from your own package index with everything else
    if pip("install", "--no-deps", "--retries", "2", "--index-url", CPU_INDEX, torch).returncode == 0:
        return 0
    print(
        f"\nThe CPU build of {torch} could not be had from {CPU_INDEX}.\n"
        "The standard build would work too, but it brings CUDA: several gigabytes. To take it all the same, run\n\n"
        "    make demo TORCH=any\n\n"
        f"or put a CPU wheel of {torch} into a folder and run: PIP_FIND_LINKS=that-folder make demo",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
