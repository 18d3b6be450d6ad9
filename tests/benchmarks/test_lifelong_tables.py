"""The published table and curve of whole lives come from the kept lives alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import lifelong_tables
from benchmarks.tables import Options, draw, main
from nl_agents.evaluation import lifelong_metrics
from tests.evaluation.lives import LEVELS, simulated_life

NAME = "lifelong_two-rooms"


def keep(root: Path, agent: str, seed: int, level: float | None, command: str = "python train.py") -> None:
    life = simulated_life(seed, level=level)
    meta = {"agent": agent, "seed": seed, "sequence": "two-rooms", "seconds": 90.0, "commit": "0123456789abcdef",
            "command": command}  # fmt: skip
    folder = root / "benchmarks" / "results" / "lifelong" / "two-rooms"
    dataclasses.replace(life, meta=meta).save(folder / f"{agent}-seed{seed}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for seed in (1, 0):
        keep(tmp_path, "slow", seed, None)
        keep(tmp_path, "expert", seed, 1.0)
    keep(tmp_path, "told", 0, 0.5, "python train.py --agent told --privileged")
    (tmp_path / "README.md").write_text(f"<!-- table: {NAME} -->\n<!-- end of table -->\n")
    return tmp_path


def results_of(project: Path) -> Path:
    return project / "benchmarks" / "results"


def test_one_row_an_agent_best_first(project: Path) -> None:
    text = lifelong_tables.lifelong_table(results_of(project), NAME, LEVELS)
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert header.count("|") == len(lifelong_tables.COLUMNS) + 1
    first, *others = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert first == [
        "expert", "1.000 [1.000, 1.000]", "0 [0, 0]", "0 [0, 0]", "0%", "never", "1.00 [1.00, 1.00]", "2", "1.5",
    ]  # fmt: skip
    assert sorted(row[0] for row in others) == ["slow", "told †"]
    slow = next(row for row in others if row[0] == "slow")
    returns = [lifelong_metrics(simulated_life(seed), LEVELS)["normalised_return"] for seed in (0, 1)]
    assert slow[1].startswith(f"{sum(returns) / 2:.3f} [")
    told = next(row for row in others if row[0] == "told †")
    assert told[1:] == ["0.500 [0.500, 0.500]", "6,400 [6,400, 6,400]", "6,400 [6,400, 6,400]", "100%", "never",
                        "0.50 [0.50, 0.50]", "1", "1.5"]  # fmt: skip


def test_the_reader_is_told_what_to_doubt(project: Path) -> None:
    text = lifelong_tables.lifelong_table(results_of(project), NAME, LEVELS)
    assert "**Preliminary**: fewer than 10 seeds" in text
    assert "† a privileged control" in text
    assert text.endswith("Commit 0123456789.")
    assert "No reference" not in text
    plain = draw(NAME, results_of(project))
    assert "No reference returns are stored" in plain
    assert "| expert | - | - | - | - | - | 1.00 [1.00, 1.00] | 2 | 1.5 |" in plain


def test_ten_seeds_are_no_longer_preliminary(tmp_path: Path) -> None:
    for seed in range(10):
        keep(tmp_path, "expert", seed, 1.0)
    assert "Preliminary" not in lifelong_tables.lifelong_table(results_of(tmp_path), NAME, LEVELS)


def test_lives_that_are_not_there_are_an_error(project: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no lives for 'lifelong_other'.*lifelong --sequence other.*lifelong_two-rooms"
    ):
        draw("lifelong_other", results_of(project))


def test_page_and_figure_follow_the_lives(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = project / "docs" / "figures" / f"{NAME}.png"
    with pytest.raises(SystemExit):
        main(Options(check=True), root=project)
    assert not figure.exists(), "a check writes nothing"
    main(Options(), root=project)
    main(Options(check=True), root=project)
    with Image.open(figure) as image:
        assert image.width > 1000
        colours = image.convert("RGB").getcolors(1 << 20)
        assert colours is not None and len(colours) > 20, "the curves are drawn"
    keep(project, "slow", 2, None)
    with pytest.raises(SystemExit):
        main(Options(check=True), root=project)
    assert capsys.readouterr().out.splitlines() == [
        f"differ: README.md, docs/figures/{NAME}.png",
        f"rewritten: README.md, docs/figures/{NAME}.png",
        "all tables are up to date",
        f"differ: README.md, docs/figures/{NAME}.png",
    ]
