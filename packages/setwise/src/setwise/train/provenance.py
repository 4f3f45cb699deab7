"""Where a run comes from: versions and the revision of the code."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from setwise.registry import Registry


def versions(registry: Registry) -> dict[str, str]:
    """Return the versions of Python, torch, and every distribution that registered a plugin."""
    found = {"python": platform.python_version(), "torch": metadata.version("torch")}
    return found | {plugin.distribution: plugin.version for plugin in registry.plugins if plugin.distribution}


def git_revision(folder: Path) -> str | None:
    """Return the commit of the git checkout around ``folder``, ``+`` added when files differ; None outside one."""
    try:
        revision = _git(folder, "rev-parse", "HEAD")
        return revision + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
