from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nl_agents.errors import RunFolderError
from nl_agents.evaluation import Lifetime, lifelong_metrics, terminal
from nl_agents.evaluation.comparison_page import write_comparison
from nl_agents.evaluation.figures import FIGURES, figure_of
from nl_agents.evaluation.plots import sliding_mean
from nl_agents.evaluation.report import write_report
from nl_agents.evaluation.run_data import RunData
from nl_agents.types import Episode
from tests.evaluation.lives import LEVELS, simulated_life
from tests.evaluation.runs import cartpole_life, write_run

CARTPOLE = {"standard": {"random": 22.0, "expert": 500.0}, "flipped": {"random": 25.0, "expert": 495.0}}


class Page(HTMLParser):
    """What a browser would see: texts, pictures, addresses."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "img":
            assert given["alt"]
            self.pictures.append(str(given["src"]))
        self.addresses += [str(given[key]) for key in ("src", "href") if key in given]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"<{tag}> closed out of order"

    def handle_data(self, data: str) -> None:
        self.text += data


def console() -> Console:
    return Console(width=150, record=True, force_terminal=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    life = cartpole_life(0, skill=0.95, savings=3.0, steps=400_000, mean_task=30_000)
    return write_run(tmp_path_factory.mktemp("report") / "run", life, full=True)


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(write_report(run, reference=CARTPOLE).read_text())


def test_the_page_is_whole_and_needs_no_other_file(page: Page) -> None:
    assert not page.open
    assert page.addresses
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)


def test_every_picture_is_an_svg_that_loads_nothing(page: Page) -> None:
    assert len(page.pictures) == 7
    for address in page.pictures:
        svg = base64.b64decode(address.partition(",")[2]).decode()
        assert "<svg" in svg
        assert "<path" in svg
        assert not re.search(r"(href|src)=\"(?!#)", svg)


def test_the_page_shows_what_the_issue_asks_for(page: Page, run: Path) -> None:
    for title in ("Return over life", "Recovery after each switch", "Levels", "Lifelong figures", "Settings"):
        assert title in page.text
    assert "core.cms.slow" in page.text  # the nest
    assert "level.weights.period" in page.text  # the controller's decisions
    assert "void: shift" in page.text
    figures = lifelong_metrics(RunData.read(run).life, CARTPOLE)
    for name, value in figures.items():
        assert figure_of(name).title in page.text
        assert figure_of(name).format(value) in page.text


def test_a_summary_lies_beside_it_and_keeps_what_was_there(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", simulated_life())
    (folder / "summary.json").write_text('{"parameters": 7}')
    write_report(folder, reference=LEVELS)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["parameters"] == 7
    assert summary["figures"]["normalised_return"] == pytest.approx(
        lifelong_metrics(simulated_life(), LEVELS)["normalised_return"]
    )
    assert summary["figures"]["recognition_step"] is None


def test_equal_runs_give_equal_pages(run: Path) -> None:
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_a_bare_run_without_reference_still_has_its_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", simulated_life(), sequence="mine")
    found = Page(write_report(folder).read_text())
    assert "No random and expert returns are stored for mine" in found.text
    assert "Return over life" in found.text
    assert "Normalised lifelong return" not in found.text


def test_a_life_without_an_episode_still_has_its_page(tmp_path: Path) -> None:
    life = cartpole_life(0, skill=1.0, savings=0.0, steps=100, mean_task=1000)
    found = Page(write_report(write_run(tmp_path / "run", life), reference=CARTPOLE).read_text())
    assert "0 episodes" in found.text and "0 task switches, " in found.text


def test_one_switch_is_one_switch(tmp_path: Path) -> None:
    episodes = [Episode(10, 0, "one", 1.0, 10, 0), Episode(20, 0, "two", 1.0, 10, 10)]
    life = Lifetime.from_episodes(episodes, [(0, "one"), (10, "two")], steps=20, num_envs=1)
    assert "1 task switch, 2 episodes" in Page(write_report(write_run(tmp_path / "run", life)).read_text()).text


def test_names_are_escaped(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", simulated_life(), agent="<script>x</script>")
    html = write_report(folder).read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", simulated_life())
    (folder / "report.html").mkdir()
    with pytest.raises(RunFolderError, match=r"cannot write .*report.html: .*; free space or choose a folder"):
        write_report(folder)


def test_the_comparison_page(tmp_path: Path) -> None:
    runs = [
        write_run(
            tmp_path / f"{agent}{seed}",
            cartpole_life(seed, skill=skill, savings=3.0, steps=200_000, mean_task=20_000),
            agent=agent,
            seed=seed,
        )
        for agent, skill in (("hope", 0.95), ("ppo", 0.4))
        for seed in range(2)
    ]
    rows, path = write_comparison(runs, tmp_path, reference=CARTPOLE)
    assert path == tmp_path / "report.html"
    assert [row["agent"] for row in rows] == ["hope", "ppo"]
    found = Page(path.read_text())
    assert len(found.pictures) == 3
    assert "Preliminary" in found.text
    assert "hope (2)" in found.text
    assert f"{rows[0]['normalised_return'].estimate:.3f}" in found.text
    assert "of unequal length" not in found.text


def test_lives_of_unequal_length_are_pointed_out(tmp_path: Path) -> None:
    lives = {"x": [simulated_life(0, count=4)], "y": [simulated_life(0, count=6)]}
    _, path = write_comparison(lives, tmp_path / "page.html")
    assert "of unequal length" in path.read_text()


def test_the_terminal_prints_every_figure(run: Path) -> None:
    screen = console()
    terminal.print_lifelong(run, screen)
    text = screen.export_text()
    for name, value in lifelong_metrics(RunData.read(run).life).items():
        assert figure_of(name).title in text
        assert figure_of(name).format(value) in text


def test_the_terminal_says_when_a_reference_is_missing(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", simulated_life(), sequence="mine:quick")
    screen = console()
    terminal.print_lifelong(folder, screen)
    assert "no reference is stored for mine" in screen.export_text()


def test_the_terminal_prints_an_evaluation() -> None:
    episodes = [Episode(10, 0, "a", value, 5, 0) for value in (1.0, 3.0)] + [Episode(10, 0, "b", 7.0, 5, 0)]
    screen = console()
    terminal.print_evaluation(episodes, "mine", screen)
    lines = [line.split() for line in screen.export_text().splitlines()]
    assert ["a", "2", "2.00", "±", "1.00", "1.00", "3.00", "5"] in lines
    assert ["b", "1", "7.00", "±", "0.00", "7.00", "7.00", "5"] in lines


def test_every_figure_is_described_and_none_twice() -> None:
    figures = lifelong_metrics(simulated_life(), LEVELS)
    for name in figures:
        assert figure_of(name).text
    assert {name for name in figures if "/" not in name} == set(FIGURES)
    with pytest.raises(KeyError, match="no figure is called 'nonsense'"):
        figure_of("nonsense")


def test_sliding_mean_by_hand() -> None:
    at, values = np.array([1.0, 2.0, 3.0, 9.0]), np.array([1.0, np.nan, 4.0, 9.0])
    found = sliding_mean(at, values, np.array([1.0, 1.0, 2.0, 1.0]), np.array([2.0, 6.0, 9.0]), 2.0)
    assert found[[0, 2]] == pytest.approx([3.0, 9.0])
    assert np.isnan(found[1])


def test_run_data_reads_what_is_there(run: Path, tmp_path: Path) -> None:
    found = RunData.read(run, CARTPOLE)
    assert set(found.tracks) == {"core.slow.0", "weights", "core.slow.1"}
    assert found.columns("memory/", "/norm").keys() == {"matrix", "fast", "level"}
    bare = RunData.read(write_run(tmp_path / "run", simulated_life()), LEVELS)
    assert bare.tracks == {}
    assert bare.decisions == []


def test_a_decision_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", simulated_life(), full=True)
    whole = len(RunData.read(folder).decisions)
    with (folder / "decisions.jsonl").open("a") as file:
        file.write('{"kind": "deci')
    assert len(RunData.read(folder).decisions) == whole
