"""The layer table of CONTRIBUTING.md, enforced on every import statement, those inside functions included."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BASE = {"types", "errors", "seeding", "config", "__version__"}
BELOW = {"rl", "optim", "tasks", "upkeep", "memory", "policies", "control", "learning", "training", "evaluation"}
MAY_IMPORT: dict[str, set[str]] = {
    **{name: BASE for name in (*BASE, "rl", "optim", "tasks", "probes", "control", "upkeep")},
    "memory": BASE | {"optim"},
    "policies": BASE | {"rl", "memory"},
    "learning": BASE | {"rl", "optim", "tasks", "upkeep", "memory", "policies", "control"},
    "training": BASE | {"rl", "optim", "tasks", "upkeep", "memory", "policies", "control", "learning"},
    "evaluation": BASE | {"rl", "optim", "tasks"},
    "sb3": BASE | BELOW,
    "cli": BASE | BELOW,
    "envs": BASE | {"tasks"},
    "agents": BASE | BELOW,
}
FOREIGN_BANNED = {"tasks": {"torch"}, "probes": {"torch"}, "control": {"torch"}}
ONLY_INSIDE_FUNCTIONS = {"envpool", "popgym", "sb3_contrib"}


def imported_names(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Yields (line, full dotted name) of every import below ``tree``, relative ones resolved against ``package``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*above, *filter(None, [node.module])))
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)


def breaches(source: str, module: tuple[str, ...], *, is_package: bool) -> list[str]:
    """Lists what ``source``, living at nl_agents.<module>, imports against the table."""
    area, tree = module[0], ast.parse(source)
    allowed = MAY_IMPORT.get(area)
    if allowed is None:
        return [f"nl_agents.{area} has no place in the layer table: give it one, here and in CONTRIBUTING.md"]
    package = ("nl_agents", *(module if is_package else module[:-1]))
    where, found = "/".join(module), []
    for line, name in imported_names(tree, package):
        first, *rest = name.split(".")
        if first in {"envs", "agents"}:
            found.append(f"{where}:{line} imports {first}: its name is nl_agents.{first} everywhere")
        if first in FOREIGN_BANNED.get(area, ()):
            found.append(f"{where}:{line} imports {first}: {area} works without it")
        if first == "nl_agents" and (not rest or rest[0] not in allowed | {area}):
            found.append(f"{where}:{line} imports {name}: {area} may import {', '.join(sorted(allowed))}")
    top_level = ast.Module([node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)], [])
    optional = ONLY_INSIDE_FUNCTIONS if area != "sb3" else set()
    for line, name in imported_names(top_level, package):
        if name.split(".")[0] in optional:
            found.append(f"{where}:{line} imports {name}, which is optional: import it inside a function")
    return found


def library_files() -> list[tuple[Path, tuple[str, ...]]]:
    """Every file of the library with its module path below nl_agents; the front door itself is checked apart."""
    files = []
    for folder, prefix in (("nl_agents", ()), ("envs", ("envs",)), ("agents", ("agents",))):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            files.append((path, (*prefix, *(parts[:-1] if parts[-1] == "__init__" else parts))))
    return [(path, module) for path, module in files if module]


def test_every_import_goes_down_the_table() -> None:
    found = []
    for path, module in library_files():
        found += breaches(path.read_text("utf-8"), module, is_package=path.name == "__init__.py")
    assert not found, "\n" + "\n".join(found)


def test_nobody_dodges_a_circle() -> None:
    files = [path for path, _ in library_files() if "circular import" in path.read_text("utf-8").lower()]
    assert not files, f"a comment about circular imports marks a module that lies in the wrong layer: {files}"


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        (("memory", "cms"), "from nl_agents.learning import replay", "may import"),
        (("memory", "cms"), "def f():\n    from ..training.loop import train", "may import"),
        (("memory", "cms"), "from .. import agents", "may import"),
        (("agents", "hope"), "from nl_agents import envs", "may import"),
        (("tasks", "sequence"), "import torch.nn", "works without"),
        (("envs", "doorkey"), "import envpool", "inside a function"),
        (("training", "loop"), "import agents", "everywhere"),
        (("helpers",), "import os", "no place in the layer table"),
    ],
)
def test_a_breach_is_seen(module: tuple[str, ...], source: str, message: str) -> None:
    assert any(message in text for text in breaches(source, module, is_package=False))


def test_legal_imports_pass() -> None:
    source = "import torch\nfrom .base import Core\nfrom ..types import LevelInfo\nfrom nl_agents.optim import rules\n"
    assert breaches(source, ("memory", "cms"), is_package=False) == []
    assert breaches("from .base import Core", ("memory",), is_package=True) == []


def test_tasks_and_the_front_door_load_without_torch() -> None:
    code = "import sys, nl_agents, nl_agents.tasks; assert nl_agents.tasks; sys.exit('torch' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr or "importing nl_agents.tasks brought torch in"
