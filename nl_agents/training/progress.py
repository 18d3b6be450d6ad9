"""The progress bar of a life."""

from __future__ import annotations

from collections.abc import Iterable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nl_agents.types import Episode


class ProgressBar:
    """Draws env steps, time left, speed and the mean return of the last 100 episodes.

    Args:
        target: env steps at which the life ends.
        start: env steps lived before.
    """

    def __init__(self, target: int, start: int) -> None:
        self.bar = Progress(
            TextColumn("[bold]living"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.start = start
        self.task = self.bar.add_task("life", total=target, completed=start, note="")

    def __enter__(self) -> ProgressBar:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def show(self, steps: int, recent: Iterable[Episode]) -> None:
        """Moves the bar to ``steps``."""
        returns = [episode.return_ for episode in recent]
        elapsed = self.bar.tasks[0].elapsed or 0.0
        note = f"{(steps - self.start) / elapsed:,.0f} steps/s" if elapsed > 0 else ""
        if returns:
            note += f" · return {sum(returns) / len(returns):.4g}"
        self.bar.update(self.task, completed=steps, note=note)
