"""The package as users get it: a clone that works uninstalled, and a wheel with one top-level name."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FOLDERS = {"nl_agents": ROOT / "nl_agents", "nl_agents.envs": ROOT / "envs", "nl_agents.agents": ROOT / "agents"}
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "nl_agents", "envs", "agents")
OUR_FOLDERS = ("nl_agents", "envs", "agents", "tests", "benchmarks", "examples")
BANNED = re.compile(r"(?:\b|_)[d]ones?(?:\b|_)")
# Host libraries that impose the word: (file, how many lines may hold it, why).
IMPOSED = {"benchmarks/opponents/worlds.py": (1, "an attribute of gymnasium's vector CartPole")}


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Runs a command apart from this checkout; fails with its output."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))}
    finished = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, f"{' '.join(map(str, command))}\n{finished.stdout}"
    return finished.stdout


def modules() -> list[str]:
    """Every module of the library by its public name, but those that run when imported."""
    names = []
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            names.append(".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts))))
    return sorted(name for name in names if not name.endswith(".__main__"))


def python_files() -> list[Path]:
    """Every Python file that we wrote."""
    return [path for folder in OUR_FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))] + list(ROOT.glob("*.py"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is built from, so that the build leaves nothing in the checkout."""
    target = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=out)
    return next(out.glob("nl_agents-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("installed") / "site"
    options = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "install", *options, "--target", target, wheel, cwd=target.parent)
    return target


def test_the_package_list_equals_the_folders() -> None:
    found = set()
    for package, folder in FOLDERS.items():
        for path in folder.rglob("__init__.py"):
            found.add(".".join((package, *path.parent.relative_to(folder).parts)))
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(found)
    homeless = {path.parent for folder in FOLDERS.values() for path in folder.rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in homeless), "a folder with modules lacks __init__.py"


def test_the_wheel_has_one_top_level_name_and_every_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"nl_agents"}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                inside = f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}"
                assert inside in names, f"{inside} is not in the wheel: see [tool.setuptools] in pyproject.toml"


def test_every_module_of_the_wheel_imports_elsewhere(installed: Path, tmp_path: Path) -> None:
    code = f"import importlib\nfor name in {modules()!r}: print(importlib.import_module(name).__file__)"
    files = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed)).splitlines()
    assert len(files) == len(modules())
    assert not [file for file in files if not file.startswith(str(installed))]


def test_the_console_command_answers(installed: Path, tmp_path: Path) -> None:
    printed = run(installed / "bin" / "nl-agents", "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    assert all(verb in printed for verb in ("train", "resume", "evaluate", "compare", "report", "list", "doctor"))


def test_a_clone_works_uninstalled(source: Path) -> None:
    code = "from nl_agents import envs, agents; import nl_agents.envs; print(envs.__file__, agents.__file__)"
    printed = run(sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}; {code}", cwd=source).split()
    assert [Path(path).parent for path in printed[-2:]] == [source / "envs", source / "agents"]


def test_a_foreign_folder_named_envs_is_not_taken_in(installed: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(installed, site)
    (site / "envs").mkdir()
    (site / "envs" / "__init__.py").write_text("raise RuntimeError('not ours')\n")
    (site / "pyproject.toml").write_text('[project]\nname = "other"\n')
    code = "import nl_agents; from nl_agents import envs; print(len(nl_agents.__path__), envs.__file__)"
    count, file = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(site)).split()[-2:]
    assert (count, Path(file).parent) == ("1", site / "nl_agents" / "envs")


def test_the_front_door() -> None:
    import nl_agents

    assert re.fullmatch(r"\d+\.\d+\.\d+.*", nl_agents.__version__)
    for name in nl_agents.__all__:
        assert getattr(nl_agents, name) is not None
    assert set(nl_agents.__all__) <= set(dir(nl_agents))
    with pytest.raises(AttributeError, match=r"no attribute 'agent'; public names are .*agents"):
        _ = nl_agents.agent


def test_pins_lie_within_the_ranges() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    extras = PROJECT["project"]["optional-dependencies"].values()
    for text in [*PROJECT["project"]["dependencies"], *(text for extra in extras for text in extra)]:
        wanted = Requirement(text)
        name = canonicalize_name(wanted.name)
        assert name in pins, f"{text} has no pin in constraints.txt"
        assert pins[name] in wanted.specifier, f"{name}=={pins[name]} lies outside {text}"


def test_files_stay_within_one_idea() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8").count("\n") for path in python_files()}
    long = {name: length for name, length in lengths.items() if length > 400}
    assert not long, f"files over 400 lines, split them by idea: {long}"


def test_the_banned_word() -> None:
    found = {}
    for path in python_files():
        name = path.relative_to(ROOT).as_posix()
        tokens = tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
        ours = (token for token in tokens if token.type in (tokenize.NAME, tokenize.COMMENT))
        lines = sorted({token.start[0] for token in ours if BANNED.search(token.string)})
        if len(lines) > IMPOSED.get(name, (0, ""))[0]:
            found[name] = lines
    assert not found, f"say terminated, truncated, is_first; finished or ended in prose; lines by file: {found}"
