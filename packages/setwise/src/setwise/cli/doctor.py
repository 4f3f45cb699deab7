"""``setwise doctor``: whether this installation can work, and what to do where it cannot."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from setwise.cli.output import OutputParameter
from setwise.errors import SetwiseError
from setwise.registry import default_registry

Check = tuple[str, str, str]
"""What was checked, "ok" or "problem" or "missing", and what was found or is to be done."""


def doctor(*, output: OutputParameter) -> None:
    """Check versions, device, optional dependencies, plugins, and the folders setwise writes to."""
    checks = [*_versions(), *_device(), *_extras(), *_plugins(), *_folders()]
    output.table([{"check": name, "status": status, "found": found} for name, status, found in checks])
    problems = sum(status == "problem" for _, status, _ in checks)
    if problems:
        output.note(f"{problems} problem{'s' if problems > 1 else ''} found")


def _versions() -> list[Check]:
    names = sorted({name for name, extra in _requirements() if not extra})
    return [
        ("python", "ok", f"{platform.python_version()} on {platform.platform()}"),
        *map(_version, ["setwise", *names]),
    ]


def _version(name: str) -> Check:
    try:
        return name, "ok", metadata.version(name)
    except metadata.PackageNotFoundError:
        return name, "problem", f"not installed; run: pip install {name}"


def _requirements() -> list[tuple[str, str]]:
    """Return the names of what setwise requires, each with the extra it belongs to or an empty string."""
    requirements = []
    for line in metadata.requires("setwise") or ():
        name, extra = re.match(r"[\w.-]+", line), re.search(r"""extra == ['"]([\w-]+)""", line)
        if name:
            requirements.append((name[0], extra[1] if extra else ""))
    return requirements


def _device() -> list[Check]:
    try:
        from setwise.device import describe, resolve_setup

        setup = resolve_setup()
        facts = describe(setup.device)
    except (ImportError, OSError, SetwiseError) as error:  # OSError: a shared library of torch is missing
        return [("device", "problem", f"{error}")]
    memory = f", {facts['memory'] / 2**30:.0f} GiB" if isinstance(facts["memory"], int) else ""
    return [
        ("device", "ok", f"{facts['device']}: {facts['name']}{memory}"),
        ("precision", "ok", f"{setup.precision}: {setup.reason}"),
    ]


def _extras() -> list[Check]:
    checks = []
    for extra in sorted({extra for _, extra in _requirements() if extra}):
        found = [_version(name) for name, of in _requirements() if of == extra]
        if all(status == "ok" for _, status, _ in found):
            checks.append((f"[{extra}]", "ok", ", ".join(f"{name} {version}" for name, _, version in found)))
        else:
            checks.append((f"[{extra}]", "missing", f'optional; to have it: pip install "setwise[{extra}]"'))
    return checks


def _plugins() -> list[Check]:
    return [
        (
            f"plugin {status.name}",
            "ok" if status.status == "ok" else "missing" if status.status == "disabled" else "problem",
            status.reason or f"{status.distribution} {status.version}",
        )
        for status in default_registry().plugins
    ]


def _folders() -> list[Check]:
    try:
        from setwise.data.locations import cache_folder, is_offline

        cache = [_folder("cache", cache_folder())]
        network = ("network", "ok", "not used: SETWISE_OFFLINE is set" if is_offline() else "may be used for downloads")
    except SetwiseError as error:
        return [("cache", "problem", str(error))]
    return [*cache, _folder("runs", Path.cwd()), network]


def _folder(name: str, folder: Path) -> Check:
    free = f"{folder}, {shutil.disk_usage(folder).free / 2**30:.1f} GiB free"
    try:
        # A real file: permission bits do not tell of read-only mounts, quotas and full disks.
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            os.write(file.fileno(), b"setwise")
    except OSError as error:
        return name, "problem", f"{free}, but it cannot be written to: {error.strerror}"
    return name, "ok", f"{free}, writable"
