"""The block design: how large a block is, how many starts a campaign has, and when it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mobench.errors import BadInputError
from mobench.stats import MIN_INCARNATIONS

BLOCK_NS = 5_000_000  # a block is as short as this allows: one inference of a 10 ms net, 125 of a 40 us one
MAX_TIMED = 500
# Untimed inferences before the timed ones. While others have their turn a model's weights leave the caches, and it
# takes several passes to bring them back. After one, MobileNetV2 INT8 in ONNX Runtime is 18 % above a loop of its own
# and its ratio to FP32 11 % off; after four, 6 % and 3 %; eight gain 1 % and cost half of the rounds
# (benchmarks/lead_in.py).
LEAD_IN = 4
# Rounds an incarnation should have: with fewer the median over them is too rough, with many more a further start would
# have been the better use of the time. A short budget gets short starts, 20 rounds, so that there are enough of them;
# one that holds more than 12 of those gets longer ones, which keep the coverage of a campaign that stops as soon as
# its interval is narrow (benchmarks/coverage.py).
ROUNDS, LONG_ROUNDS, ENOUGH_INCARNATIONS = 20, 40, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """When a campaign ends: at the asked interval half-widths (shares of the figure), or when the budget is spent.

    With ``sustain_s`` it is a sustained load instead: one start, rounds without a pause for that long.
    With ``energy_s`` each model also runs alone for so long in each start, where a GPU tells what it takes.
    """

    budget_s: float = 60.0
    ratio_half_width: float = 0.01
    p50_half_width: float = 0.02
    seed: int = 0
    deadline_s: float = 60.0
    sustain_s: float = 0.0
    energy_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse times and widths that no campaign could keep to.

        Raises:
            BadInputError: a value that is negative or not finite, or no budget at all.
        """
        for name in ("budget_s", "ratio_half_width", "p50_half_width", "deadline_s", "sustain_s", "energy_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0) or (name == "budget_s" and value == 0):
                raise BadInputError(f"{name} {value}", "not a finite, positive number", "for example a budget of 3600")


def timed_inferences(latency_ns: float) -> int:
    """Return how many inferences a block times."""
    return max(1, min(MAX_TIMED, round(BLOCK_NS / max(latency_ns, 1))))


def starts(budget_s: float, starting_s: float, round_s: float) -> int:
    """Return how many starts of all sessions a budget holds best, by what starting them and a round take."""
    short = int(budget_s / (starting_s + ROUNDS * round_s))
    long = int(budget_s / (starting_s + LONG_ROUNDS * round_s))
    return max(MIN_INCARNATIONS, min(short, max(long, ENOUGH_INCARNATIONS)))
