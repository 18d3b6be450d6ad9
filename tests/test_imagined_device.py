"""Cores and learner on an imagined device (``tests/imagined.py``): one device a sum, no word to the host."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

from tests.imagined import AGENTS, CORES

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"), reason="this torch imagines no device"
)


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What went wrong, by case."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "tests.imagined"]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told: dict[str, str] = json.loads(ran.stdout.splitlines()[-1])
    return told


def test_no_core_leaves_its_device_or_waits_for_the_host(found: dict[str, str]) -> None:
    fused = {name for name in CORES if name.startswith(("lstm", "gru"))}
    for name in CORES:
        if name in fused:  # as their docstring says: the host asks once whether all of a sequence is finite
            assert found[name].startswith("DataDependentOutputException in ['forward: if not all_sound"), found[name]
        else:
            assert found[name] == "", f"{name}: {found[name]}"


@pytest.mark.parametrize("agent", AGENTS, ids="/".join)
def test_an_update_stays_on_its_device_without_the_host(agent: tuple[str, ...], found: dict[str, str]) -> None:
    assert found["/".join(agent)] == ""
