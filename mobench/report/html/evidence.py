"""All that a report is made of, read once: campaigns, accuracies, and a line for each journal that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobench import store
from mobench.errors import BadInputError
from mobench.records import Accuracy, Run

# Whose a figure is, wherever one stands. "counted" is exact: it is no evidence of a device.
EVIDENCE = {
    "ours": "measured here",
    "others": "measured by others",
    "printed": "printed in the paper",
    "counted": "counted from the layers",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What lies in the results: campaigns that timed or imported something, newest first, accuracies, and faults.

    ``journals`` counts every file that was found, ``faults`` has a line for each that was left out.
    """

    runs: tuple[Run, ...]
    accuracies: tuple[Accuracy, ...]
    faults: tuple[str, ...]
    journals: int

    @property
    def timed(self) -> tuple[Run, ...]:
        """The campaigns that timed something here."""
        return tuple(run for run in self.runs if run.blocks)


def read(paths: Sequence[Path], progress: Callable[[float], None] = lambda share: None) -> Evidence:
    """Read every journal that is, or lies under, the given paths. ``progress`` takes the share that is read.

    Raises:
        BadInputError: a path that is not there, no journal at all, or none with a figure in it; then the message has
            the first fault.
    """
    runs: list[Run] = []
    accuracies: list[Accuracy] = []
    faults: list[str] = []
    journals = list({path.resolve(): path for path in store.find(paths)}.values())
    for number, path in enumerate(journals, 1):
        try:
            run = store.read(path)
        except BadInputError as error:
            faults.append(f"left out: {error}")
        else:
            accuracies += run.accuracies
            if run.blocks or run.imported:
                runs.append(run)
        progress(number / len(journals))
    if not any(run.blocks for run in runs):
        where = ", ".join(map(str, paths))
        why = faults[0] if faults else "its journals hold no timing"
        raise BadInputError(f"nothing timed in {where}", why, "time some models with `mobench run`")
    runs.sort(key=lambda run: (str(run.header.get("started", "")), str(run.path)), reverse=True)
    return Evidence(runs=tuple(runs), accuracies=tuple(accuracies), faults=tuple(faults), journals=len(journals))


def plain_path(text: str) -> str:
    """Return a path as it may be published: of an absolute one, which tells whose home it lay in, only the name."""
    return Path(text).name if Path(text).is_absolute() else text
