"""Adds the reference to the documentation: a page per public module or folder of modules of every distribution.

A hook of mkdocs, see `mkdocs.yml`. The pages exist during the build only, so no list has to follow the code.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
NOT_PUBLIC = {"builtin", "cli"}  # what they contain is shown by `setwise list` and `setwise --help`

PAGE = """# {module}

::: {module}
    options:
      show_root_heading: false
      show_root_toc_entry: false
      show_submodules: true
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page per part, and an index of all."""
    index = ["# Reference\n", "Generated from the docstrings. Every example in them is run by the tests.\n"]
    for package in sorted(ROOT.glob("*/*/src/*/")):
        index.append(f"## {package.name}\n")
        for module in sorted(f"{package.name}.{part}" for part in public_parts(package)):
            files.append(File.generated(config, f"reference/{module}.md", content=PAGE.format(module=module)))
            index.append(f"- [{module}]({module}.md)")
        index.append("")
    files.append(File.generated(config, "reference/index.md", content="\n".join(index)))
    return files


def public_parts(package: Path) -> set[str]:
    """Names of the modules and folders of modules directly below a package, without private ones."""
    found = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    return {name for name in found if not name.startswith("_")} - NOT_PUBLIC
