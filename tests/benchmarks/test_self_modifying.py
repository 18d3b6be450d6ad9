"""The ablation's list: every row is a core that can be built and differs from the whole in what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.probing.cores import parse_core
from benchmarks.self_modifying import ABLATIONS, Options, main
from nl_agents.memory.modify_core import SelfModifyingCore


def test_every_row_is_a_core_of_its_own() -> None:
    for options in (Options(), Options(form="linear", chunk=1)):
        specs = [parse_core(text) for text in options.listed()]
        assert len({spec.slug for spec in specs}) == len(ABLATIONS)
        cores = [spec.build(3, 16) for spec in specs]
        assert all(isinstance(core, SelfModifyingCore) for core in cores)
        rules = [core.rule for core in cores if isinstance(core, SelfModifyingCore)]
        assert {rule.memory for rule in rules} == {options.form} and {rule.chunk for rule in rules} == {options.chunk}
        assert len({rule.largest_step for rule in rules}) == 1
        assert rules[0].write == "dgd" and rules[1].write == "gd" and rules[2].momentum == 0.0


def test_the_command_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(Options(tasks=("parity",), quick=True, results=tmp_path))
    table = capsys.readouterr().out
    assert table.count("| self-modifying:memory=mlp") == len(ABLATIONS)
    assert len(list((tmp_path / "parity").glob("*.json"))) == 3 * len(ABLATIONS)  # two trials and a run each
