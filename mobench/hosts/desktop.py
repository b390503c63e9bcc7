"""This machine as a host."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import Any, Self

from mobench.hosts import Care, Meter, Session, Watch
from mobench.hosts.conditions import Tool, as_fields
from mobench.hosts.reference import Reference
from mobench.records import TOOL_FORMATS, Cell, Check
from runners import desktop, device_state, gpu_vulkan, nvidia
from runners.tool_places import Here


class DesktopHost:
    """This machine."""

    care: Care | None = None

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (),
        check: bool = False,
        tool: Tool | None = None,
        on: Collection[str] = ("desktop-cpu",),
    ) -> None:
        """Take this machine; ``shape`` is the first input's, for models that leave it open; ``on`` are its devices."""
        self._shape, self._tool = shape, tool
        self._reference = Reference(shape) if check else None
        self._gpu = nvidia.Gpu() if "desktop-gpu" in on else None
        self.meter: Meter | None = self._gpu if self._gpu and not self._gpu.absent else None
        # Now: the first state has a span behind it to tell others' load of.
        self.watch: Watch = nvidia.GpuWatch(self._gpu) if self._gpu else device_state.Watch()

    def choose_cores(self, threads: int) -> tuple[int, ...]:
        """Return the fastest of the allowed cores."""
        return desktop.choose_cores(threads)

    def machine(self) -> dict[str, Any]:
        """Describe this machine, and its GPU where it is measured."""
        return device_state.machine() | self._gpus

    @cached_property
    def _gpus(self) -> dict[str, Any]:
        """What NVML says of the GPU, and the names of those that Vulkan finds, the one that WebGPU takes first."""
        if self._gpu is None:
            return {}
        try:
            found = sorted(gpu_vulkan.survey(), key=gpu_vulkan.rank)
        except gpu_vulkan.VulkanError:
            found = []
        return {"gpu": self._gpu.describe(), "vulkan": [str(each) for each in found]}

    def private(self) -> tuple[str, ...]:
        """Return nothing: a machine's name is in no journal."""
        return ()

    def conditions(self) -> dict[str, Any]:
        """Return what else was asked, as `open_host` takes it again."""
        return as_fields(self._reference is not None, self._tool, None)

    def open_session(self, cell: Cell) -> Session:
        """Load a cell's model in a child process."""
        if self._tool and cell.target.runtime in TOOL_FORMATS:
            return self._tool.open_session(cell, Here())
        return desktop.open_session(cell.artifact, cell.target, shape=self._shape)

    def check(self, cell: Cell, session: Session) -> Check | None:
        """Compare a session's outputs with those of the runtime's own choice for a CPU, where that was asked for."""
        return self._reference.check(cell, session) if self._reference else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return
