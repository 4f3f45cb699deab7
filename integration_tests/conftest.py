"""What the integration tests share. They look at installed wheels, never at the tree: `uv run nox -s integration`."""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

GROUP = "setwise.plugins.v1"
SITE_PACKAGES = Path(sysconfig.get_paths()["purelib"])
COMMAND = Path(sys.executable).with_name("setwise")


def plugin_distributions() -> dict[str, Distribution]:
    """The installed distributions that bring a plugin, core among them, by the name of the plugin."""
    return {
        entry.name: distribution
        for distribution in distributions()
        for entry in distribution.entry_points.select(group=GROUP)
    }


def pytest_sessionstart(session: pytest.Session) -> None:
    installed = plugin_distributions()
    if "setwise" not in installed:
        pytest.exit("setwise is not installed; run: uv run nox -s integration", returncode=2)
    for distribution in installed.values():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if "dir_info" in origin:
            name = distribution.metadata["Name"]
            pytest.exit(f"{name} is installed from the tree, not from a wheel; run: uv run nox -s integration", 2)


@pytest.fixture(scope="session")
def installed() -> dict[str, Distribution]:
    """The installed distributions that bring a plugin, core among them, by the name of the plugin."""
    return plugin_distributions()


def run_python(
    folder: Path, *arguments: str, path: Sequence[Path] = (), site: Path = SITE_PACKAGES, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder. `path` comes first on `sys.path`; `site` replaces site-packages, see `site_without`."""
    flags, packages = ([], []) if site == SITE_PACKAGES else (["-S"], [site])
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, *packages])), **environment}
    command = [sys.executable, *flags, *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Python program, a warning of which is an error; see `run_python`."""
    return partial(run_python, tmp_path, "-W", "error", "-c")


@pytest.fixture
def setwise(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed `setwise` command in an empty folder, see `run_python`."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    return partial(run_python, workspace, str(COMMAND))


@pytest.fixture(scope="session")
def setwise_in() -> Callable[[Path], Callable[..., subprocess.CompletedProcess[str]]]:
    """The same in a folder of the caller's choice."""
    return lambda folder: partial(run_python, folder, str(COMMAND))


@pytest.fixture
def site_without(tmp_path: Path, installed: dict[str, Distribution]) -> Callable[..., Path]:
    """Make a site-packages folder that lacks some plugins' distributions, by linking to everything else."""

    def make(*plugins: str) -> Path:
        removed = {Path(file).parts[0] for plugin in plugins for file in installed[plugin].files or ()}
        folder = tmp_path / ("without-" + "-".join(plugins))
        folder.mkdir()
        for item in SITE_PACKAGES.iterdir():
            if item.name not in removed:
                (folder / item.name).symlink_to(item)
        return folder

    return make


@pytest.fixture
def install_fake(tmp_path: Path) -> Callable[..., Path]:
    """Install a made-up distribution into a folder for `sys.path`: its files, and the metadata of a wheel."""

    def install(
        distribution: str,
        files: Mapping[str, str],
        *,
        plugin: str,
        module: str,
        group: str = GROUP,
        version: str = "1.0",
    ) -> Path:
        folder = tmp_path / f"site-of-{distribution}"
        metadata = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(f"[{group}]\n{plugin} = {module}\n")
        for name, text in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return folder

    return install
