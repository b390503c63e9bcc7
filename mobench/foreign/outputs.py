"""A file of another tool's output, told by its content, never by its name."""

from __future__ import annotations

import re
from collections.abc import Callable

from mobench.errors import BadInputError
from mobench.records import Imported
from mobench.tool_outputs import ROW, RefusedError, benchmark_model, litert_json, perf_test, perf_test_rows

# tool: the runtime it times
TOOLS = {"benchmark_model": "litert", "onnxruntime_perf_test": "ort", "litert-benchmark": "litert"}
# what only this form has, and its parser
_FORMS: tuple[tuple[str, Callable[[str], list[Imported]]], ...] = (
    (r"\A\s*\{", litert_json),
    (r"BENCHMARK RESULTS|timings in us:|\bSTARTING!", benchmark_model),
    (r"Session creation time cost|Average time cost:|Total inference requests", perf_test),
    (ROW.pattern, perf_test_rows),
)


def parse(text: str, name: str, tool: str = "auto") -> tuple[Imported, ...]:
    """Read one file of another tool's output: a result for each run in it, in their order, with no cell yet.

    Args:
        text: the content; a console log may have any prefix (`INFO: `, logcat's) before what the tool printed.
        name: the file's name, for errors.
        tool: one of ``TOOLS``, or ``auto``.

    Raises:
        BadInputError: not an output of that tool, or a run in it failed, was cut off or timed nothing.
    """
    if tool not in ("auto", *TOOLS):
        raise BadInputError(f"--tool {tool}", "no such tool", f"one of auto, {', '.join(TOOLS)}")
    text = text.replace("\r\n", "\n")
    read = next((read for mark, read in _FORMS if re.search(mark, text, re.MULTILINE)), None)
    if read is None:
        why = f"nothing in it looks like the output of {', '.join(TOOLS)}"
        raise BadInputError(name, why, "give what the tool printed, or its result file")
    try:
        results = tuple(read(text))
    except RefusedError as error:
        raise BadInputError(name, str(error), "give the whole output of a run that ended well") from error
    if tool != "auto" and (others := {result.tool for result in results} - {tool}):
        raise BadInputError(name, f"this is the output of {', '.join(others)}", "leave out --tool")
    return results
