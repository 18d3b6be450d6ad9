"""The benchmark of the needle's drift: what is put back is what stood there; a quick run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.needle_drift import Options, ask, main, trained


def test_everything_put_back_is_a_memory_that_has_seen_nothing_since() -> None:
    options = Options(updates=0, span=640, streams=8)
    reader = trained(options, 0)
    whole = ask(reader, options, 0, slice(None))
    assert 0.0 <= whole <= 1.0 and ask(reader, options, 0) == ask(reader, options, 0)
    with pytest.raises(SystemExit, match="expected a Hope core"):
        trained(replace(options, core="lstm"), 0)


def test_a_quick_run_writes_its_record(tmp_path: Path) -> None:
    main(Options(quick=True, out=tmp_path / "record.json"))
    record = json.loads((tmp_path / "record.json").read_text("utf-8"))
    assert list(record["right"]) == ["0"] and len(record["right"]["0"]) == 8
