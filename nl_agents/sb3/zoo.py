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

from nl_agents.errors import UnknownNameError

SETTINGS = Path(__file__).parent / "hyperparams"
COMMANDS = {"train": "rl_zoo3.train", "enjoy": "rl_zoo3.enjoy"}
"""Where the commands live that do without rl_zoo3's optional packages; its own command line imports all at once."""
PLOTS = ("plot_train", "plot_from_file", "all_plots")
"""Its other commands, by its own command line."""
ALGORITHMS = {
    "hope_ppo": "FastRecurrentPPO",
    "fast_ppo_lstm": "FastRecurrentPPO",
    "recurrent_dqn": "RecurrentDQN",
    "recurrent_sac": "RecurrentSAC",
}
"""Name on the command line -> class in ``nl_agents.sb3``; each has settings of its own."""
RANGES = {"hope_ppo": "ppo_lstm", "fast_ppo_lstm": "ppo_lstm", "recurrent_dqn": "dqn", "recurrent_sac": "sac"}
"""Whose ranges ``--optimize`` searches: rl_zoo3's for the algorithm that takes the same options."""


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
    search = importlib.import_module("rl_zoo3.hyperparams_opt")
    for ranges in (search.HYPERPARAMS_SAMPLER, search.HYPERPARAMS_CONVERTER):
        ranges.update({name: ranges[like] for name, like in RANGES.items()})
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
    """Hands a command on to rl_zoo3; returns 2 where a package is missing, or no command that it knows is given."""
    words = sys.argv[1:] if words is None else words
    command, known = next(iter(words), ""), [*COMMANDS, *PLOTS]
    if command in ("-h", "--help"):
        print(f"{__doc__}\nCommands: {', '.join(known)}; 'train --help' lists the options of one.")
        return 0
    if command not in known:
        print(UnknownNameError("command", command, known) if command else __doc__, file=sys.stderr)
        return 2
    try:
        register()
        module = importlib.import_module(COMMANDS.get(command, "rl_zoo3.cli"))
    except ModuleNotFoundError as missing:
        if command in PLOTS and missing.name != "rl_zoo3":
            print(f"{command} needs rl_zoo3's plots: pip install 'rl_zoo3[plots]' ({missing})", file=sys.stderr)
        else:
            print(missing, file=sys.stderr)
        return 2
    direct = command in COMMANDS
    before, sys.argv = sys.argv, ["nl_agents.sb3.zoo", *with_settings(words)[1 if direct else 0 :]]
    try:
        getattr(module, command if direct else "main")()
    finally:
        sys.argv = before
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
