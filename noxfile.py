"""The checks of this workspace, as nox sessions: `uv run nox` runs what CI runs, `nox -l` lists all of them.

Distributions are found by their folders, so a new one needs no line here. Every `uv pip install` runs in the root of
the workspace, where uv applies the known-good versions of `[tool.uv] constraint-dependencies`.
"""

import re
import shutil
import tempfile
import tomllib
import zipfile
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "types", "tests", "wheel", "integration", "docs", "tests_gpu"]

ROOT = Path(__file__).parent
PACKAGES = sorted(
    file.parent for pattern in ("packages", "plugins") for file in ROOT.glob(f"{pattern}/*/pyproject.toml")
)
each_package = nox.parametrize("package", [nox.param(package, id=package.name) for package in PACKAGES])

# Tests use one thread (small tensors lose time on more), draw without a screen and never reach for the network.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "SETWISE_OFFLINE": "1"}
IN_CI = "not (gpu or paper)"
QUICK = "not (gpu or paper or slow)"


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint rules, and the names of changelog fragments."""
    session.install("--group", "pyproject.toml:lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    for package in PACKAGES:
        session.run("towncrier", "build", "--draft", "--version", "next", "--dir", str(package), silent=True)


@nox.session
def types(session: nox.Session) -> None:
    """Pyright over the sources of every distribution."""
    session.install("--group", "pyproject.toml:types", *editable(*PACKAGES))
    session.run("pyright", "--pythonpath", f"{session.bin}/python", *session.posargs)


@nox.session
@each_package
def tests(session: nox.Session, package: Path) -> None:
    """Tests and doctests of one distribution, in an environment with only what it declares."""
    session.install(*editable(package))
    run_pytest(session, "-m", IN_CI, "--doctest-modules", package / "src", package / "tests")


@nox.session
@each_package
def tests_lowest(session: nox.Session, package: Path) -> None:
    """The same with the oldest versions that are declared to work, whose warnings are not ours."""
    session.install("--no-config", "--resolution", "lowest-direct", *editable(package))
    run_pytest(session, "-m", QUICK, "-W", "default", package / "tests")


@nox.session
def tests_gpu(session: nox.Session) -> None:
    """Tests marked `gpu` of every distribution; skipped on a machine without an accelerator."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        session.skip("no accelerator: /dev has no nvidia device")
    session.install(*editable(*PACKAGES))
    run_pytest(session, "-m", "gpu", *(package / "tests" for package in PACKAGES))


@nox.session
@each_package
def wheel(session: nox.Session, package: Path) -> None:
    """Build one distribution, check its files, install it into a clean environment and test it outside the tree."""
    with tempfile.TemporaryDirectory() as folder:
        wheels = build(session, with_local_requirements(package), Path(folder) / "dist")
        check_wheel(session, package, wheels[0])
        install_wheels(session, wheels, package / "pyproject.toml")
        shutil.copytree(package / "tests", Path(folder) / "tests")
        with session.chdir(folder):
            run_pytest(session, "-m", QUICK, "-c", ROOT / "pyproject.toml", "--rootdir", folder, "tests")


@nox.session
def integration(session: nox.Session) -> None:
    """All distributions together, as installed wheels: co-installation, behaviour across plugins, the command line."""
    with tempfile.TemporaryDirectory() as folder:
        third_party = sorted((ROOT / "integration_tests" / "third_party").iterdir())
        wheels = build(session, [*PACKAGES, *third_party], Path(folder) / "dist")
        install_wheels(session, wheels, ROOT / "pyproject.toml")
        run_pytest(session, "-m", IN_CI, ROOT / "integration_tests")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into `site/`; a warning is an error."""
    session.install("--group", "pyproject.toml:docs")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """Run every benchmark, one after another, on one thread."""
    session.install(*editable(*PACKAGES))
    for file in sorted(file for package in PACKAGES for file in package.glob("benchmarks/bench_*.py")):
        session.run("python", str(file), *session.posargs, env=ENVIRONMENT)


def run_pytest(session: nox.Session, *arguments: str | Path) -> None:
    session.run("pytest", *map(str, arguments), *session.posargs, env=ENVIRONMENT)


def editable(*packages: Path) -> list[str]:
    """Arguments that install distributions from the tree with their test groups; uv adds their local requirements."""
    return [
        argument
        for package in packages
        for argument in ("-e", str(package), "--group", f"{package}/pyproject.toml:test")
    ]


def with_local_requirements(package: Path) -> list[Path]:
    """A distribution and those of this workspace that it requires, directly or not."""
    projects = {path: tomllib.loads((path / "pyproject.toml").read_text())["project"] for path in PACKAGES}
    found = [package]
    for path in found:  # grows while it is walked
        required = {re.split(r"[^\w.-]", requirement)[0] for requirement in projects[path]["dependencies"]}
        found += [other for other in PACKAGES if projects[other]["name"] in required and other not in found]
    return found


def build(session: nox.Session, packages: list[Path], output: Path) -> list[Path]:
    """Build sdists, and from these sdists wheels."""
    wheels = []
    for package in packages:
        session.run("uv", "build", "--quiet", "--out-dir", str(output / package.name), str(package), external=True)
        wheels += (output / package.name).glob("*.whl")
    return wheels


def check_wheel(session: nox.Session, package: Path, wheel: Path) -> None:
    """Check that no source file, and not the licence, got lost between the tree and a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        built = set(archive.namelist())
        licences = [archive.read(name) for name in built if name.endswith(".dist-info/licenses/LICENSE")]
    source = package / "src"
    expected = {file.relative_to(source).as_posix() for file in source.rglob("*") if file.is_file()}
    missing = sorted(name for name in expected - built if "__pycache__" not in name)
    if missing or not any(name.endswith("/py.typed") for name in built):
        session.error(f"{wheel.name} lacks {', '.join(missing) or 'py.typed'}")
    if licences != [(ROOT / "LICENSE").read_bytes()]:
        session.error(f"{wheel.name} must contain a copy of the LICENSE of this repository")


def install_wheels(session: nox.Session, wheels: list[Path], group_file: Path) -> None:
    """Install built wheels and a test group; without sources, because those would put the tree in the wheels' place."""
    session.install("--no-sources", *map(str, wheels), "--group", f"{group_file}:test")
