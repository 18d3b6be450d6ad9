"""The benchmark of the needle's drift: the same answers twice, Hope only, a quick run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.needle_drift import Options, ask, main, trained


def test_asking_changes_nothing_and_only_hope_is_taken() -> None:
    options = Options(updates=0, span=200, streams=4)
    reader = trained(options, 0)
    first = ask(reader, options, 0)
    ask(reader, options, 0, slice(None))
    assert ask(reader, options, 0) == first
    with pytest.raises(SystemExit, match="expected a Hope core"):
        trained(replace(options, core="lstm"), 0)


def test_a_quick_run_writes_its_record(tmp_path: Path) -> None:
    main(Options(quick=True, out=tmp_path / "record.json"))
    record = json.loads((tmp_path / "record.json").read_text("utf-8"))
    assert list(record["right"]) == ["0"] and len(record["right"]["0"]) == 8
