"""Environments of their own for what lkmongo is compared with, under `.bench`: nothing of it comes near ours."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from benchmarks.measure import tell

ROOT = Path(__file__).parents[1] / ".bench"


def environment(name: str, packages: list[str]) -> Path:
    """Make the environment where it is missing or has other packages; returns its Python.

    Raises:
        SystemExit: the packages cannot be installed.
    """
    home = ROOT / name
    python = home / "bin" / "python"
    ready = home / f"{sha256(' '.join(packages).encode()).hexdigest()[:12]}.installed"
    if not ready.exists():
        tell(f"Setting up {home} with {', '.join(packages)}: once, two minutes")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        if subprocess.run(pip, check=False).returncode:
            raise SystemExit(
                f"error: {name} cannot be installed from the package registry; pip says why above\n"
                "  try: set a registry that has it (PIP_INDEX_URL), or leave this comparison out"
            )
        ready.touch()
    return python


def alone(home: Path) -> dict[str, str]:
    """The environment variables of a process that is compared: nothing of ours, and it can call nobody outside."""
    nobody = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9") | {"NO_PROXY": "localhost,127.0.0.1"}
    return {"PATH": os.environ["PATH"], "HOME": str(home), **nobody}
