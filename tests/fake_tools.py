"""Stand-ins for the user's own tools: they print what the real ones' sources print, with edits."""

import json
import math
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobench.records import Artifact, Target
from runners import tool_flags
from runners.native_tools import ToolSession, open_tool_session
from runners.tool_places import Completed

CLASSIC = (
    *("num_runs", "min_secs", "max_secs", "num_threads", "warmup_runs", "warmup_min_secs", "graph", "use_xnnpack"),
    *("use_gpu", "gpu_precision_loss_allowed", "require_full_delegation", "report_peak_memory_footprint", "help"),
)
LITERT = (*CLASSIC[:7], "use_cpu", "use_gpu", "use_npu", "require_full_delegation", "gpu-precision")
LABELS = {name: labels[0] for name, labels in tool_flags._ECHOES.items()}
Edit = Callable[[str], str]


def usage(flags: Sequence[str]) -> str:
    types = {"graph": "string", "gpu-precision": "string", "min_secs": "float", "num_runs": "int32"}
    lines = "".join(f"\t--{name}=x     \t{types.get(name, 'bool')}\toptional\twhat it does\n" for name in flags)
    return f"ERROR: usage: benchmark_model <flags>\nFlags:\n{lines}\nERROR: Benchmarking failed.\n"


def phases(flags: dict[str, str], mean_us: float) -> str:
    runs = {"warm": flags["warmup_runs"], "timed": flags["num_runs"]}
    seconds = {"warm": flags["warmup_min_secs"], "timed": flags["min_secs"]}
    counts = {key: max(int(runs[key]), math.ceil(float(seconds[key]) * 1e6 / mean_us)) for key in runs}
    return "".join(
        f"INFO: Running benchmark for at least {runs[key]} iterations and at least {seconds[key]} seconds but terminate"
        f" if exceeding {flags['max_secs']} seconds.\nINFO: count={counts[key]} first={2 * mean_us:g} curr={mean_us:g}"
        f" min={mean_us / 2:g} max={2 * mean_us:g} avg={mean_us:g} std=3 p5=1 median=2 p95=3\n\n"
        for key in runs
    )


def classic(flags: dict[str, str], mean_us: float, nodes: str = "66 out of 66") -> tuple[str, str]:
    """Return what TFLite's program writes to its two streams."""
    unknown = [f"--{name}={value}" for name, value in flags.items() if name not in CLASSIC]
    gpu = flags.get("use_gpu") == "true"
    name, kernel = ("GPU", "GpuDelegateV2") if gpu else ("XNNPACK", "XNNPackDelegate")
    out = "INFO: STARTING!\n"
    out += f"WARN: Unconsumed cmdline flags: {' '.join(unknown)}\n" if unknown else ""
    out += "INFO: Log parameter values verbosely: [0]\n"
    for flag, value in flags.items():
        if flag in LABELS:
            out += f"INFO: {LABELS[flag]}: [{({'true': '1', 'false': '0'}).get(value, value)}]\n"
    out += f"INFO: Loaded model {flags['graph']}\n"
    err = "INFO: Initialized TensorFlow Lite runtime.\n"
    if gpu or flags.get("use_xnnpack") == "true":
        out += f"INFO: Explicitly applied {name} delegate, and the model graph will be completely executed by the"
        out += " delegate.\n"
        err += f"VERBOSE: Replacing {nodes} node(s) with delegate (TfLite{kernel}) node, yielding 1 partitions for"
        err += " subgraph 0.\n" + ("INFO: Initialized OpenCL-based API.\n" if gpu else "")
    out += f"INFO: Initialized session in 12.75ms.\n{phases(flags, mean_us)}"
    out += f"INFO: Inference timings in us: Init: 12750, First inference: {2 * mean_us:g}, Warmup (avg): {mean_us:g},"
    out += f" Inference (avg): {mean_us:g}\n"
    out += "INFO: Memory footprint delta from the start of the tool (MB): init=18.5 overall=29.5\n"
    return out, err


def litert(flags: dict[str, str], mean_us: float) -> tuple[str, str]:
    """Return what LiteRT's program writes: two decimals of a millisecond, and the classic one's phases."""
    out = "INFO: STARTING!\nINFO: Log parameter values verbosely: [0]\n"
    for flag in flags:
        if flag in tool_flags._SHARED:
            out += f"INFO: {LABELS[flag]}: [{flags[flag]}]\n"
    out += f"INFO: [benchmark_litert_model.cc:131] Loading model from: {flags['graph']}\n" + phases(flags, mean_us)
    count = re.findall(r"count=(\d+)", out)[-1]
    h = "INFO: [benchmark_litert_model.h:9"
    out += "\n========== BENCHMARK RESULTS ==========\n"
    out += f"{h}4] Model initialization: 12.75 ms\n{h}6] Warmup (first):       {mean_us / 500:.2f} ms\n"
    out += f"{h}8] Warmup (avg):         {mean_us / 1000:.2f} ms (3 runs)\n"
    out += f"{h}9] Inference (avg):      {mean_us / 1000:.2f} ms ({count} runs)\n"
    out += f"{h}9] Inference (std):      0.02\n{h}9] \nMemory Usage:\n{h}9] Overall footprint:    95.50 MB\n"
    out += f"{h}9] ======================================\n\n"
    err = "WARNING: [auto_registration.cc:42] NPU accelerator could not be loaded.\n"
    if flags.get("use_gpu") == "true":
        err += "VERBOSE: Replacing 40 out of 40 node(s) with delegate (LITERT_CL) node, yielding 1 partitions.\n"
    return out, err


def perf_test(arguments: Sequence[str], mean_us: float) -> tuple[str, str, str]:
    """Return onnxruntime_perf_test's two streams and its result file: ten slow ones, then all alike."""
    count, threads = int(arguments[arguments.index("-r") + 1]), arguments[arguments.index("-x") + 1]
    seconds = [mean_us * (5 if n < 10 else 1) / 1e6 for n in range(count)]
    rows = "".join(f"models,{s:g},36696064,99,{n}\n" for n, s in enumerate(seconds))
    out = f"Setting intra_op_num_threads to {threads}\nSession creation time cost: 0.0102 s\n"
    out += f"First inference time cost: 2 ms\nTotal inference time cost: {sum(seconds):g} s\n"
    out += f"Total inference requests: {count}\nAverage inference time cost total: {sum(seconds) / count * 1e3:f} ms\n"
    out += f"Total inference run time: {sum(seconds):g} s\nNumber of inferences per second: 538.184 \n"
    out += "Avg CPU usage: 96 %\nPeak working set size: 36696064 bytes\n"
    return out, "", rows


@dataclass
class Desk:
    """A place with a tool in it that does not exist: it answers as one would, with edits."""

    tool: str = "classic"
    mean_us: float = 1000.0
    out: Edit = lambda text: text
    err: Edit = lambda text: text
    rows: Edit = lambda text: text
    status: int = 0
    late: bool = False
    wall_s: float = 1000.0
    nodes: str = "66 out of 66"
    known: Sequence[str] | None = None
    commands: list[list[str]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    closed: int = 0
    libraries: str = ""

    def program(self, binary: Path) -> str:
        """Return where it would be."""
        return f"/there/{binary.name}"

    def file(self, path: Path) -> str:
        """Return where it would be."""
        return f"/there/{path.name}"

    def new_file(self, name: str) -> str:
        """Return where it would be."""
        return f"/there/{name}"

    def take(self, path: str) -> str:
        """Return what the tool wrote."""
        return self.files.pop(path, "")

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    def run(self, command: Sequence[str], *, deadline_s: float) -> Completed:
        """Answer as the tool would."""
        self.commands.append(list(command))
        arguments = list(command[next(n for n, part in enumerate(command) if part.startswith("/there/")) + 1 :])
        if arguments == ["--help"]:
            text = usage(self.known or {"litert": LITERT}.get(self.tool, CLASSIC))
            return Completed(status=1, out="INFO: STARTING!\n", err=text, wall_s=0.1)
        if self.tool == "perf_test":
            out, err, rows = perf_test(arguments, self.mean_us)
            self.files[arguments[-1]] = self.rows(rows)
        else:
            flags = dict(part.removeprefix("--").split("=", 1) for part in arguments)
            out, err = (
                litert(flags, self.mean_us) if self.tool == "litert" else classic(flags, self.mean_us, self.nodes)
            )
        return Completed(status=self.status, out=self.out(out), err=self.err(err), wall_s=self.wall_s, late=self.late)


def artifact(format_: Any = "tflite") -> Artifact:
    """Describe a model that no tool here reads."""
    return Artifact(path=Path(f"net.{format_}"), sha256="0", size_bytes=1, format=format_, name="net")


def start(desk: Any, binary: Path, **target: Any) -> ToolSession:
    """Open a session of the tool in a place, with four threads; the output is kept beside the program."""
    tool, model = ("onnxruntime_perf_test", "onnx") if getattr(desk, "tool", "") == "perf_test" else ("", "tflite")
    device = "android-gpu" if "gpu" in target.get("provider", "") else "android-cpu"
    asked = Target(**{"runtime": tool or "benchmark_model", "threads": 4, "device": device, **target})
    return open_tool_session(
        tool or "benchmark_model", binary, artifact(model), asked, place=desk, logs=binary.parent / "logs"
    )


def flags_of(command: Sequence[str]) -> dict[str, str]:
    """Return a command's flags by name."""
    return dict(part[2:].split("=", 1) for part in command if part.startswith("--") and "=" in part)


def install(folder: Path, tool: str, **edits: Any) -> Path:
    """Write a program that prints what a tool prints, two microseconds an inference."""
    scenario = folder / "scenario.json"
    scenario.write_text(json.dumps({"tool": tool, **edits}))
    program = folder / "benchmark_model"
    program.write_text(
        f"#!{sys.executable} -P\n"
        + textwrap.dedent(f"""
        import json, os, sys, time
        from pathlib import Path
        sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parent)]!r}
        import fake_tools
        edits = json.loads(Path({str(scenario)!r}).read_text())
        if sys.argv[1:] != ["--help"]:
            seconds = [float(part.split("=")[1]) for part in sys.argv if part.startswith(("--min_s", "--warmup_min_s"))]
            time.sleep(edits.get("sleep_s", sum(seconds)))
        desk = fake_tools.Desk(tool=edits["tool"], mean_us=2.0)
        done = desk.run(["/there/x", *sys.argv[1:]], deadline_s=1)
        for path, text in desk.files.items():
            Path(path).write_text(text)
        sys.stdout.write(done.out)
        sys.stderr.write(done.err)
        print(f"cores {{sorted(os.sched_getaffinity(0))}}, {{os.environ['LD_LIBRARY_PATH']}}", file=sys.stderr)
        sys.stdout.flush()
        if edits.get("signal") and sys.argv[1:] != ["--help"]:
            os.kill(os.getpid(), edits["signal"])
        sys.exit(done.status)
        """)
    )
    program.chmod(0o755)
    return program
