"""rl_zoo3's command line with our algorithms in it.

    pip install 'nl-agents[zoo]'
    python -m nl_agents.sb3.zoo train --algo hope_ppo --env CartPoleNoVel-v1 --eval-freq 10000
    python -m nl_agents.sb3.zoo enjoy --algo hope_ppo --env CartPoleNoVel-v1 --folder logs

All words behind the module's name are rl_zoo3's own. Settings of our algorithms lie in ``nl_agents/sb3/hyperparams``;
``--conf-file`` takes others. Its own algorithms run as they do without us, and their YAML entries may name our policies
(``policy: HopePolicy`` under ``ppo_lstm``).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SETTINGS = Path(__file__).parent / "hyperparams"
COMMANDS = {"train": "rl_zoo3.train", "enjoy": "rl_zoo3.enjoy"}
"""Where the commands live that do without rl_zoo3's optional packages; its own command line imports all at once."""
ALGORITHMS = {
    "hope_ppo": "FastRecurrentPPO",
    "fast_ppo_lstm": "FastRecurrentPPO",
    "recurrent_dqn": "RecurrentDQN",
    "recurrent_sac": "RecurrentSAC",
}
"""Name on the command line -> class in ``nl_agents.sb3``; each has settings of its own."""


def register() -> dict[str, Any]:
    """Adds our algorithms to rl_zoo3's table and returns it.

    Raises:
        ModuleNotFoundError: rl_zoo3 is not installed.
    """
    if importlib.util.find_spec("rl_zoo3") is None:
        raise ModuleNotFoundError(
            "nl_agents.sb3.zoo runs rl_zoo3's command line, which is not installed: pip install 'nl-agents[zoo]'",
            name="rl_zoo3",
        )
    ours = importlib.import_module("nl_agents.sb3")
    table: dict[str, Any] = importlib.import_module("rl_zoo3").ALGOS
    table.update({name: getattr(ours, kind) for name, kind in ALGORITHMS.items()})
    return table


def with_settings(words: Sequence[str]) -> list[str]:
    """The words of a ``train`` command, with the settings of our algorithm where the user names none."""
    words = list(words)
    names = [word.partition("=")[0] for word in words]
    if not words or words[0] != "train" or any(name == "-conf" or name.startswith("--conf") for name in names):
        return words
    for index, name in enumerate(names):
        if name == "--algo":
            algorithm = words[index].partition("=")[2] or next(iter(words[index + 1 :]), "")
            if algorithm in ALGORITHMS:
                return [*words, "--conf-file", str(SETTINGS / f"{algorithm}.yml")]
    return words


def main(words: Sequence[str] | None = None) -> int:
    """Hands a command on to rl_zoo3; returns 2 where that is not installed, or no command is given."""
    words = sys.argv[1:] if words is None else words
    try:
        register()
    except ModuleNotFoundError as missing:
        print(missing, file=sys.stderr)
        return 2
    if not words:
        print(__doc__, file=sys.stderr)
        return 2
    command, words = words[0], with_settings(words)
    direct = command in COMMANDS
    before, sys.argv = sys.argv, ["nl_agents.sb3.zoo", *words[1 if direct else 0 :]]
    try:
        module = importlib.import_module(COMMANDS.get(command, "rl_zoo3.cli"))
        getattr(module, command if direct else "main")()
    finally:
        sys.argv = before
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
