"""Draws the five pictures of docs/concepts.md: ``python docs/figures/concepts.py`` writes them beside this file.

They show how things work together; the curves in them are made up, but for the momenta, which are computed.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Wedge

HERE = Path(__file__).parent
INK, SOFT, PAPER = "#22303c", "#8a97a3", "#ffffff"
BLUE, ORANGE, GREEN, RED, VIOLET = "#2f6db3", "#d9822b", "#3d8f5f", "#b5443c", "#7b5ea7"


def sheet(width: float, height: float, columns: list[float]) -> tuple[Figure, list[Axes]]:
    """A figure of panels side by side."""
    plt.rcParams.update({"font.size": 9, "font.family": "DejaVu Sans", "text.color": INK, "axes.edgecolor": SOFT})
    plt.rcParams.update({"axes.labelcolor": INK, "xtick.color": SOFT, "ytick.color": SOFT, "axes.titlesize": 9.5})
    figure, axes = plt.subplots(
        1, len(columns), figsize=(width, height), width_ratios=columns, layout="constrained", facecolor=PAPER
    )
    for panel in np.atleast_1d(axes):
        panel.spines[["top", "right"]].set_visible(False)
    return figure, list(np.atleast_1d(axes))


def save(figure: Figure, name: str) -> None:
    """Writes a PNG whose bytes depend on the drawing alone."""
    figure.savefig(HERE / f"{name}.png", dpi=120, metadata={"Software": None})
    plt.close(figure)


def box(panel: Axes, x: float, y: float, width: float, height: float, text: str, color: str) -> None:
    """A named part; x and y are those of its centre."""
    corner = (x - width / 2, y - height / 2)
    panel.add_patch(
        FancyBboxPatch(
            corner, width, height, boxstyle="round,pad=0,rounding_size=0.12", fc=color + "22", ec=color, lw=1.4
        )
    )
    panel.text(x, y, text, ha="center", va="center", linespacing=1.35)


def arrow(
    panel: Axes, start: tuple[float, float], end: tuple[float, float], color: str = INK, bend: float = 0.0
) -> None:
    """A flow from one part to another."""
    style = {"arrowstyle": "-|>", "color": color, "lw": 1.3, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11}
    panel.annotate("", end, start, arrowprops=style | {"connectionstyle": f"arc3,rad={bend}"})


def bare(panel: Axes, width: float, height: float) -> None:
    """A panel to draw parts on."""
    panel.set(xlim=(0, width), ylim=(0, height))
    panel.axis("off")


def memory_core() -> None:
    """State in, state out; inside, a memory that writes itself and levels with periods of their own."""
    figure, (parts, clock) = sheet(9.2, 3.1, [1.35, 1.0])
    bare(parts, 10, 5)
    parts.set_title("y, state = core(x, state, is_first)", family="DejaVu Sans Mono", loc="left")
    box(parts, 3.55, 3.1, 3.1, 1.7, "self-modifying\nmemory  $M$", BLUE)
    box(parts, 7.3, 3.1, 2.2, 1.7, "CMS levels\nfast … slow", GREEN)
    arrow(parts, (0.6, 3.1), (2.0, 3.1))
    arrow(parts, (5.1, 3.1), (6.2, 3.1))
    arrow(parts, (8.4, 3.1), (9.6, 3.1))
    parts.text(0.45, 3.35, "$x_t$", ha="center")
    parts.text(9.65, 3.35, "$y_t$", ha="center")
    arrow(parts, (3.2, 3.95), (3.9, 3.95), ORANGE, bend=-0.9)
    words = "reads first, then writes itself:\nkey, value, step size, retention come from $M$"
    parts.text(3.55, 4.72, words, ha="center", va="center", color=ORANGE, fontsize=8, linespacing=1.3)
    parts.plot([0.9, 9.2], [1.1, 1.1], color=VIOLET, lw=17, alpha=0.2, solid_capstyle="round")
    parts.text(
        5.05, 1.1, "memory state of one stream: in, and out", ha="center", va="center", color=VIOLET, fontsize=8.5
    )
    for x in (2.7, 6.7):
        arrow(parts, (x, 1.3), (x, 2.2), VIOLET)
    for x in (4.4, 7.9):
        arrow(parts, (x, 2.2), (x, 1.3), VIOLET)
    parts.text(
        5.05,
        0.45,
        "an episode's first step clears levels of scope episode, never those of scope never",
        ha="center",
        fontsize=8,
        color=SOFT,
    )
    rows = [
        ("heads of $M$", 1, BLUE),
        ("anchors of $M$", 8, BLUE),
        ("CMS, act time", 16, GREEN),
        ("weights", 32, SOFT),
        ("CMS, learner time", 64, GREEN),
    ]
    for place, (name, period, color) in enumerate(rows):
        height = len(rows) - place
        clock.hlines(height, 0, 64, color=SOFT, lw=0.5)
        clock.vlines(
            np.arange(period, 65, period), height - 0.28, height + 0.28, color=color, lw=1.2 if period > 1 else 0.8
        )
        clock.text(-1.5, height, name, ha="right", va="center", fontsize=8.5)
    clock.set(
        xlim=(0, 65),
        ylim=(0.4, len(rows) + 0.6),
        xlabel="env steps of one stream",
        yticks=[],
        xticks=[0, 16, 32, 48, 64],
    )
    clock.spines["left"].set_visible(False)
    clock.set_title("each level changes at its own period", loc="left")
    save(figure, "concept_memory_core")


def deep_optimizer() -> None:
    """Momentum remembers gradients on three periods; a mixture of them foretells the next one, within a guard."""
    figure, (course, guard) = sheet(9.2, 2.9, [1.75, 1.0])
    random, steps = np.random.default_rng(3), np.arange(400)
    truth = np.where(steps < 200, 0.8, -0.5) + 0.25 * np.sin(steps / 14.0)
    gradients = truth + 0.55 * random.standard_normal(steps.size)
    course.plot(steps, gradients, ".", color=SOFT, ms=2.2, alpha=0.7, label="gradients as they come")
    source = gradients
    for name, period, color in (("momentum, period 1", 1, ORANGE), ("period 10", 10, BLUE), ("period 100", 100, GREEN)):
        kept, sums, shown = 0.0, 0.0, np.empty(steps.size)
        for t, value in enumerate(source):
            sums += value
            if (t + 1) % period == 0:
                kept += 0.1 * (sums / period - kept) if period == 1 else 0.35 * (sums / period - kept)
                sums = 0.0
            shown[t] = kept
        course.plot(steps, shown, color=color, lw=1.6, label=name)
        source = shown
    course.set(xlabel="learner updates", yticks=[0], ylim=(-2.2, 3.3), xlim=(0, 400))
    course.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", handlelength=1.2, columnspacing=1.0)
    course.set_title("momentum is a memory of gradients; slower ones remember longer", loc="left")
    bare(guard, 10, 8.2)
    guard.set_aspect("equal")
    guard.set_title("a forecast pulls, a guard holds", loc="left")
    guard.add_patch(Wedge((1.2, 1.2), 7.2, 12, 52, fc=ORANGE + "22", ec="none"))
    for angle, length, color, name, lift in (
        (32, 6.6, ORANGE, "AdamW's step", -0.45),
        (78, 5.4, SOFT, "forecast", 0.15),
        (47, 6.2, BLUE, "step taken", 0.3),
    ):
        tip = (1.2 + length * np.cos(np.radians(angle)), 1.2 + length * np.sin(np.radians(angle)))
        arrow(guard, (1.2, 1.2), tip, color)
        guard.text(tip[0] + 0.15, tip[1] + lift, name, color=color, fontsize=8.5)
    guard.plot(1.2, 1.2, "o", color=INK, ms=4)
    guard.text(1.0, 0.5, "weights", fontsize=8.5)
    save(figure, "concept_deep_optimizer")


def meta_controller() -> None:
    """One factor, one notch, one decision epoch; judged by returns."""
    figure, (walk, loop) = sheet(9.2, 2.9, [1.75, 1.0])
    positions = np.array([0, 0, 0, 1, 1, 2, 2, 1, 1, 0, 1, 1, 1])
    gains = np.array([0.0, 0.1, -0.1, 0.5, 0.6, -0.8, -0.6, 0.5, 0.7, 0.0, 0.6, 0.6, 0.5])
    epochs = np.arange(positions.size)
    walk.step(np.append(epochs, epochs[-1] + 1), np.append(positions, positions[-1]), where="post", color=BLUE, lw=1.8)
    for epoch, gain in zip(epochs, gains, strict=True):
        color = GREEN if gain > 0.2 else RED if gain < -0.2 else SOFT
        walk.bar(epoch + 0.5, 0.9 * abs(gain) + 0.06, 0.8, bottom=-3.4, color=color, alpha=0.85)
    notes = {3: "try one\nnotch", 5: "another:\nworse", 7: "back", 9: "default,\nas control"}
    for epoch, note in notes.items():
        walk.text(
            epoch + 0.1, positions[epoch] + 0.25 if epoch != 9 else -1.35, note, fontsize=8, va="bottom", color=INK
        )
    walk.set(
        xlim=(0, 13),
        ylim=(-3.5, 3.6),
        xlabel="decision epochs",
        yticks=[-2, -1, 0, 1, 2, 3],
        yticklabels=["1/4", "1/2", "default", "2 ×", "4 ×", "8 ×"],
    )
    walk.text(0.1, -2.45, "returns of the epoch: better, worse, as expected", fontsize=8, color=SOFT)
    walk.set_title("one factor (say, a level's period) over a life", loc="left")
    bare(loop, 10, 6.5)
    box(loop, 5, 5.2, 6.2, 1.3, "meta-controller", VIOLET)
    box(loop, 5, 1.4, 6.2, 1.5, "agent: memory, optimizer,\nreplay", BLUE)
    arrow(loop, (3.0, 4.5), (3.0, 2.2), VIOLET)
    arrow(loop, (7.0, 2.2), (7.0, 4.5), GREEN)
    loop.text(2.8, 3.35, "periods,\nrates", ha="right", va="center", fontsize=8.5, color=VIOLET)
    loop.text(7.2, 3.35, "returns", ha="left", va="center", fontsize=8.5, color=GREEN)
    loop.text(5, 0.2, "it never sees a network", ha="center", fontsize=8, color=SOFT)
    save(figure, "concept_meta_controller")


TASKS = {"A": BLUE, "B": ORANGE, "C": GREEN}
BLOCKS = [("A", 0, 30), ("B", 30, 55), ("C", 55, 90), ("A", 90, 115), ("B", 115, 150)]


def task_sequence() -> None:
    """One life, tasks that come and return; what is told of it."""
    figure, (life,) = sheet(9.2, 2.5, [1.0])
    for task, begin, end in BLOCKS:
        life.add_patch(plt.Rectangle((begin, 3.1), end - begin, 0.9, fc=TASKS[task] + "44", ec=PAPER, lw=2))
        life.text((begin + end) / 2, 3.55, f"task {task}", ha="center", va="center", color=INK)
        for row, word in ((1.25, f"id {'ABC'.index(task)}"),):
            life.text((begin + end) / 2, row, word, ha="center", va="center", fontsize=8.5, color=TASKS[task])
    random = np.random.default_rng(0)
    for row, name in ((2.55, "hidden (default)"), (1.9, "notified"), (1.25, "task-id")):
        life.text(-1.5, row, name, ha="right", va="center", fontsize=8.5)
        life.hlines(row, 0, 150, color=SOFT, lw=0.4, zorder=0)
    life.text(75, 2.48, "nothing is told", ha="center", fontsize=8.5, color=SOFT, backgroundcolor=PAPER)
    for _, begin, _ in BLOCKS[1:]:
        life.plot(begin, 1.9, "v", color=RED, ms=7)
        life.vlines(begin, 0.2, 4.15, color=RED, lw=0.8, ls=":")
    for stream in range(2):
        ends = np.cumsum(random.integers(4, 13, 40))
        life.vlines(ends[ends < 150], 0.62 - 0.4 * stream - 0.13, 0.62 - 0.4 * stream + 0.13, color=INK, lw=0.9)
        life.hlines(0.62 - 0.4 * stream, 0, 150, color=SOFT, lw=0.6)
        life.text(-1.5, 0.62 - 0.4 * stream, f"stream {stream}: episodes", ha="right", va="center", fontsize=8.5)
    life.text(-1.5, 3.55, "what runs", ha="right", va="center", fontsize=8.5)
    life.set(xlim=(0, 152), ylim=(-0.1, 4.3), yticks=[], xlabel="thousand env steps, over all streams")
    life.spines["left"].set_visible(False)
    life.set_title("the task changes while the agent lives; what it is told is an option", loc="left")
    save(figure, "concept_task_sequence")


def lifelong_return() -> None:
    """Everything earned counts, scaled by what chance and an expert earn."""
    figure, (life,) = sheet(9.2, 2.7, [1.0])
    steps, score = np.arange(0, 150, 0.5), []
    speed = {0: 8.0, 1: 9.0, 2: 10.0, 3: 1.2, 4: 1.6}
    for index, (_, begin, end) in enumerate(BLOCKS):
        inside = steps[(steps >= begin) & (steps < end)] - begin
        low = 0.05 if index < 3 else 0.45
        score.append(0.95 - (0.95 - low) * np.exp(-inside / speed[index]))
    curve = np.concatenate(score)
    for task, begin, end in BLOCKS:
        inside = (steps >= begin) & (steps <= end)
        life.fill_between(steps[inside], 0, curve[inside], color=TASKS[task], alpha=0.25, lw=0)
        life.text((begin + end) / 2, 0.3, f"task {task}", ha="center", fontsize=8.5, color=INK)
    life.plot(steps, curve, color=INK, lw=1.5)
    for height, name in ((0.0, "random policy: 0"), (1.0, "each task's expert: 1")):
        life.axhline(height, color=SOFT, lw=0.9, ls="--")
        life.text(151, height, name, va="center", fontsize=8.5, color=SOFT)
    for begin, width, note in ((0, 15, "first visit: learns"), (90, 1.6, "comes back: recognises")):
        life.axvspan(begin, begin + width, ymin=0.0, ymax=0.88, color=RED, alpha=0.12, lw=0)
        life.text(begin, 1.17, note, fontsize=8.5, color=RED)
    life.set(
        xlim=(0, 150),
        ylim=(-0.08, 1.3),
        yticks=[0, 0.5, 1],
        xlabel="thousand env steps, over all streams",
        ylabel="score",
    )
    life.set_title("lifelong return: the mean of what was earned, every switch included (the shaded area)", loc="left")
    save(figure, "concept_lifelong_return")


if __name__ == "__main__":
    for draw in (memory_core, deep_optimizer, meta_controller, task_sequence, lifelong_return):
        draw()
