"""What the sessions on a desktop's GPU share: what they are asked, what ends an inference, where the nodes ran."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mobench.errors import SessionError

_KERNEL = "_kernel_time"  # what a trace adds to a node's name
# What WebGPU prints where no call fails: as LiteRT's accelerator has it, and as ONNX Runtime has.
_BROKEN = re.compile(
    r"(?:Validation|Out of memory|Internal|Unknown) error: [^\n]+|WebGPU device (?:error|lost)\b[^\n]*"
)
SHOWN = 5  # nodes that the GPU does not take are named up to so many
# What a timed inference ends with, by what can be waited for.
SYNCHRONISED = "the GPU's stream was synchronised; outputs stayed on the GPU"
READ_BACK = "its outputs were read back: there is nothing else to wait for"
COPIED = "inputs were copied in and outputs out"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuAsked:
    """What a session on a GPU is asked beside its model.

    ``io``, ``cuda_graph``, ``tf32`` and ``partial`` are the target's. ``precision`` is the file's and empty where
    unknown, ``sha256`` its hash, ``cache`` the folder of all caches.
    """

    io: str
    cuda_graph: bool = False
    tf32: bool = False
    partial: bool = False
    precision: str = ""
    sha256: str = ""
    cache: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a graph's nodes run: counts by provider, and those that the one asked for does not take, by name."""

    asked: str
    providers: Mapping[str, int]
    operators: Mapping[str, int]  # those that the one asked for runs
    left: tuple[str, ...] = ()
    not_delegated: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many nodes there are."""
        return sum(self.providers.values())

    @property
    def taken(self) -> int:
        """How many of them the provider asked for runs."""
        return self.providers.get(self.asked, 0)

    def told(self) -> dict[str, Any]:
        """Return it as a ``ready`` message has it."""
        return {
            "nodes_delegated": self.taken,
            "nodes_total": self.total,
            "not_delegated": dict(self.not_delegated),
            "providers": dict(self.providers),
            "left": list(self.left),
        }


def place(nodes: Iterable[tuple[str, str, str]], asked: str) -> Placement:
    """Return the placement of nodes, each as provider, operator and name.

    >>> place([("Gpu", "Conv", "c1"), ("Cpu", "Resize", "up")], "Gpu").left
    ("Resize 'up' (Cpu)",)
    """
    nodes = list(nodes)
    others = [(provider, op, name) for provider, op, name in nodes if provider != asked]
    return Placement(
        asked=asked,
        providers=dict(Counter(provider for provider, _, _ in nodes)),
        operators=dict(Counter(op for provider, op, _ in nodes if provider == asked)),
        left=tuple(f"{op} {name!r} ({provider})" if name else f"{op} ({provider})" for provider, op, name in others)[
            :SHOWN
        ],
        not_delegated=dict(Counter(op for _, op, _ in others)),
    )


def nodes_of(events: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return provider, operator and name of each node that a trace of ONNX Runtime's holds, without copies."""
    found = []
    for event in events:
        name, args = str(event.get("name", "")), event.get("args", {})
        if event.get("cat") == "Node" and name.endswith(_KERNEL) and not args.get("op_name", "").startswith("Memcpy"):
            found.append((str(args.get("provider", "")), str(args.get("op_name", "")), name.removesuffix(_KERNEL)))
    return found


def refuse_broken(what: str, printed: str, mend: str) -> None:
    """Raise what WebGPU printed of work that it threw away: a shader that is none, memory that is not there.

    No call fails then: inferences return at once, and outputs are zeros.

    Raises:
        SessionError: such a line is there.
    """
    if found := _BROKEN.search(printed):
        raise SessionError(what, f"the GPU threw work away and no call failed: {found[0].strip()}", mend)


def refuse_partial(placement: Placement, name: str) -> SessionError:
    """Return the error of a model that the GPU takes in part, or not at all."""
    count = placement.total - placement.taken
    more = f" and {count - len(placement.left)} more" if count > len(placement.left) else ""
    what = f"{placement.asked} takes {placement.taken} of the {placement.total} nodes of {name}"
    mend = "--allow-partial runs the rest on the CPU and says so everywhere"
    if not placement.taken:
        mend = "run it on the CPU"
    return SessionError(what, f"it leaves {', '.join(placement.left)}{more}", mend)
