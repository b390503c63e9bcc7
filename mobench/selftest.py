"""What only a phone can show: android_harness/README.md's list, gone through on the one that is attached."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mobench import __version__, artifacts
from mobench.errors import BadInputError, LinkError, MobenchError, SessionError
from mobench.files import write_text
from mobench.hosts.phone import alone, digest
from mobench.hosts.reference import Reference
from mobench.profile.operators import overhead
from mobench.records import RUNTIME_FORMATS, Artifact, Cell, Ready, Target
from runners.adb import Adb
from runners.android import build, runtimes, sessions
from runners.android.care import MARKER, SETTLE_S, Care
from runners.android.folder import Folder
from runners.android.phone import Phone, choose_cores, find
from runners.android.source import PhoneSource, PhoneWatch

SCHEMA = 1
_SPAN_S = 1.0  # of what is timed where a check looks at the effect of something
_GONE_S = 20.0  # for a process to end after its input has
_LEAST_MS = 1.0  # of an inference, to tell threads by their effect
_MOST = 1_000_000  # inferences in a request
_MOST_OF_WHOLE = 1.1  # of an inference, that its operators can take: their clock counts whole microseconds
Said = tuple[str, dict[str, Any]]  # a line for people, and the figures behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one check ended: ``said`` is a line, ``figures`` what it rests on."""

    check: str
    status: Literal["ok", "no", "skipped"]
    said: str
    figures: Mapping[str, Any]
    seconds: float


class _SkippedError(MobenchError):
    """A check that this phone, or what has been set up, gives no occasion for."""


class _CountingAdb(Adb):
    """A phone, and how many files were pushed to it."""

    pushes = 0

    def push(self, source: Path, target: str, *, deadline_s: float = 300.0) -> None:
        """Push and count."""
        self.pushes += 1
        super().push(source, target, deadline_s=deadline_s)


class _Bench:
    """The phone and the models that the checks have."""

    def __init__(self, phone: Phone, files: Sequence[Artifact]) -> None:
        self.phone = phone
        self.adb = _CountingAdb(phone.serial)
        self.folder = Folder(self.adb)
        self.reference = Reference()
        self._files = {each.format: each for each in reversed(files)}  # the first of a format stays

    def file(self, runtime: str) -> Artifact:
        """Return the model for a runtime."""
        wanted = RUNTIME_FORMATS[runtime]
        if wanted not in self._files:
            raise _SkippedError(f"needs a .{wanted} file")
        return self._files[wanted]

    def target(self, device: str, runtime: str, provider: str = "", threads: int = 1) -> Target:
        """Return a target whose runtime has been set up."""
        try:
            found = runtimes.find(self.phone.abi, runtime)
        except BadInputError as error:
            raise _SkippedError(str(error)) from error
        if device == "android-gpu" and not found.accelerators:
            raise _SkippedError(f"no GPU accelerator has been set up for {self.phone.abi}")
        cores = choose_cores(self.phone, threads)
        return Target(device=device, runtime=runtime, provider=provider, threads=threads, cores=cores)

    def any_cpu(self, threads: int = 1) -> Target:
        """Return a target on the CPU in whichever runtime there is."""
        for runtime in RUNTIME_FORMATS:
            try:
                self.file(runtime)
                return self.target("android-cpu", runtime, threads=threads)
            except _SkippedError:
                continue
        raise _SkippedError("no runtime has been set up for a file that was given")

    def open(self, target: Target) -> sessions.AndroidSession:
        """Load the model for a target's runtime on the phone."""
        return sessions.open_session(self.phone, self.adb, self.folder, self.file(target.runtime), target)

    def harnesses(self) -> frozenset[int]:
        """Return the ids of the harnesses of ours that run on the phone now."""
        told = self.adb.shell(f"pidof {build.NAME}; true", idempotent=True).out.split()
        return self.folder.processes() & {int(word) for word in told if word.isdigit()}

    def must_be_gone(self) -> float:
        """Wait until no harness of ours runs; return the seconds that took."""
        began = time.monotonic()
        while left := self.harnesses():
            if time.monotonic() - began > _GONE_S:
                why = f"process {', '.join(map(str, left))} still runs after {_GONE_S:g} s"
                raise SessionError("the harness", why, "restart the phone, and send this report")
            time.sleep(0.5)
        return time.monotonic() - began


def _loader(bench: _Bench) -> Said:
    program = bench.folder.put(build.harness(bench.phone.abi), executable=True)
    told = bench.adb.shell(
        f"{program} '{{}}'; echo; grep -m 1 KernelPageSize /proc/self/smaps; echo selinux=$(getenforce)"
    )
    lines = told.out.replace("\r", "").split("\n")  # not splitlines, to which the protocol's separator ends a line
    hello = next((line[1:] for line in lines if line.startswith('\x1e{"type":"hello"')), None)
    if hello is None:
        why = " ".join((told.err or told.out).split())[:300] or "it answers nothing"
        raise SessionError("the harness does not start", why, "build it with the NDK, and send this report")
    page = next((line.split()[1] for line in lines if line.startswith("KernelPageSize")), "?")
    selinux = next((line.partition("=")[2] for line in lines if line.startswith("selinux=")), "")
    figures = {"page_kib": page, "selinux": selinux, "hello": json.loads(hello)}
    return f"the harness starts, pages of {page} KiB", figures


def _computes(device: str, runtime: str, provider: str) -> Callable[[_Bench], Said]:
    def check(bench: _Bench) -> Said:
        file, target = bench.file(runtime), bench.target(device, runtime, provider)
        with bench.open(target) as session:
            ready = session.ready
            found = bench.reference.check(Cell(id=file.name, artifact=file, target=target), session)
        if found.unchecked:
            raise _SkippedError(found.unchecked)
        figures = _figures(ready) | {"snr_db": found.snr_db, "top1": found.top1}
        if found.wrong:
            raise SessionError(f"{runtime} {provider}".strip(), found.wrong, "send this report")
        nodes = "" if ready.nodes_total is None else f", {ready.nodes_delegated} of {ready.nodes_total} nodes"
        return f"{ready.got}{nodes}; {found.snr_db:.0f} dB against this machine", figures

    return check


def _figures(ready: Ready) -> dict[str, Any]:
    kept = ("init_ns", "first_ns", "peak_rss_mb", "asked", "got", "nodes_delegated", "nodes_total", "cores", "versions")
    return {key: getattr(ready, key) for key in kept}


def _waits(bench: _Bench) -> Said:
    """Hold the phone's clock against ours over twice as many inferences: what both requests cost beside falls out."""
    with bench.open(bench.target("android-gpu", "litert", "gpu-fp16")) as session:
        count = _enough(session)
        spans = []
        for timed in (count, 2 * count):
            began = time.monotonic_ns()
            wall_ns = sum(session.time(lead_in=0, timed=timed, deadline_s=120).wall_ns)
            spans.append((time.monotonic_ns() - began, wall_ns))
    here_ms, there_ms = ((later - first) / 1e6 for first, later in zip(*spans, strict=True))
    figures = {"inferences": count, "here_ms": here_ms, "phone_ms": there_ms, "ratio": here_ms / there_ms}
    said = f"{count} more inferences took {here_ms:.0f} ms here and {there_ms:.0f} ms by the phone's clock"
    if not 0.8 < here_ms / there_ms < 1.25:
        raise SessionError("the GPU's times are not those of finished work", said, "send this report")
    return said, figures


def _enough(session: sessions.AndroidSession) -> int:
    """Return how many inferences take about _SPAN_S."""
    wall_ns = session.time(lead_in=2, timed=3, deadline_s=120).wall_ns
    return min(_MOST // 4, max(5, round(_SPAN_S * 1e9 / min(wall_ns))))


def _profiles(device: str, runtime: str, provider: str) -> Callable[[_Bench], Said]:
    def check(bench: _Bench) -> Said:
        with bench.open(bench.target(device, runtime, provider)) as session:
            try:
                profile = session.profile(turns=3, lead_in=1, timed=5, deadline_s=300)
            except LinkError:
                raise
            except SessionError as error:
                if device != "android-gpu":
                    raise
                raise _SkippedError(str(error)) from error  # not every accelerator has a profiler
        found = overhead(profile)
        figures = dataclasses.asdict(found) | {
            "source": profile.source,
            "notes": profile.notes,
            "kernels": sorted({operator.kernel for operator in profile.operators}),
        }
        said = f"{len(profile.operators)} operators sum to {found.operators_ms:.3f} of {found.profiled_ms:.3f} ms"
        if not profile.operators or found.operators_ms > _MOST_OF_WHOLE * found.profiled_ms:
            raise SessionError(f"profile in {runtime}", said, "send this report")
        return said, figures

    return check


def _threads(bench: _Bench) -> Said:
    many = 4 if len(bench.phone.cores) >= 4 else 2
    busy = {}
    for threads in (1, many):
        with bench.open(bench.any_cpu(threads)) as session:
            count = _enough(session)
            timing = session.time(lead_in=2, timed=count, deadline_s=120)
            if sum(timing.wall_ns) / count < _LEAST_MS * 1e6:
                raise _SkippedError(f"an inference takes less than {_LEAST_MS:g} ms: give a bigger model")
            busy[threads] = timing.cpu_ns / sum(timing.wall_ns)
    said = f"one thread keeps {busy[1]:.2f} cores busy, {many} threads {busy[many]:.2f}"
    if busy[1] > 1.2 or busy[many] < 1.3:
        raise SessionError("threads have not the effect they should", said, "send this report")
    return said, {"busy_cores": busy}


def _cores(bench: _Bench) -> Said:
    target = bench.any_cpu()
    clocks = [f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq" for core in target.cores]
    with bench.open(target) as session:
        kept = session.ready.cores
        session.time(lead_in=2, timed=_enough(session), deadline_s=120)
        told = session.state(clocks)
    if kept != target.cores:
        raise SessionError("the affinity mask", f"{target.cores} was asked for, {kept} is kept", "send this report")
    mhz = ", ".join(f"{int(text) // 1000} MHz" for text in told.values() if text.isdigit()) or "clocks cannot be read"
    return f"cores {','.join(map(str, kept))}, {mhz}", {"cores": kept, "khz": told}


def _deadline(bench: _Bench) -> Said:
    with bench.open(bench.any_cpu()) as session:
        if not bench.harnesses():
            raise SessionError("the harness", "its process is not found", "send this report")
        try:
            session.time(lead_in=0, timed=_MOST, deadline_s=0.2)
        except LinkError:
            raise
        except SessionError as error:
            said = str(error)
        else:
            raise SessionError("the deadline", f"{_MOST} inferences were done within 0.2 s", "give a bigger model")
        seconds = bench.must_be_gone()
    return f"ended ({said})", {"seconds": seconds}


def _hang_up(bench: _Bench) -> Said:
    session = bench.open(bench.any_cpu())
    try:
        if not bench.harnesses():
            raise SessionError("the harness", "its process is not found", "send this report")
        session._process.kill()  # adb's client goes as in a crash of this machine; the phone sees an end of input
        seconds = bench.must_be_gone()
    finally:
        session.close()
    return f"no process is left after {seconds:.1f} s", {"seconds": seconds}


def _pushed_once(bench: _Bench) -> Said:
    bench.open(bench.any_cpu()).close()
    before, bench.folder = bench.adb.pushes, Folder(bench.adb)  # a new one, which knows of nothing on the phone
    bench.open(bench.any_cpu()).close()
    if sent := bench.adb.pushes - before:
        raise SessionError("unchanged files", f"{sent} were sent again", "send this report")
    return f"{before} files were pushed by all checks, none of them again", {"pushes": before}


def _state(bench: _Bench) -> Said:
    state = PhoneWatch(PhoneSource(bench.adb)).state("during", 0.0)
    clusters = state.clusters
    told = {
        "thermal status": state.thermal_status is not None,
        "temperatures": bool(state.temps_c),
        "battery": state.battery_percent is not None,
        "charge counter": state.charge_uah is not None,
        "clocks": bool(clusters) and all(each.freq_khz is not None for each in clusters),
        "caps": bool(clusters) and all(each.cap_khz is not None for each in clusters),
        "governors": bool(clusters) and all(each.governor is not None for each in clusters),
        "load": state.load_1m is not None,
    }
    lacks = [name for name, there in told.items() if not there]
    said = f"tells {', '.join(name for name, there in told.items() if there) or 'nothing'}"
    if not (told["temperatures"] and told["battery"]):
        raise SessionError("what care needs", f"{said}; not {', '.join(lacks)}", "send this report")
    return said + (f"; not {', '.join(lacks)}" if lacks else ""), {"state": dataclasses.asdict(state)}


def _steady_mode(bench: _Bench) -> Said:
    if not bench.phone.has_fixed_performance:
        raise _SkippedError(f"Android {bench.phone.android} does not offer it")
    told: list[str] = []
    watch = PhoneWatch(PhoneSource(bench.adb))
    before = _caps(watch)
    with Care(bench.adb, watch, tell=told.append) as care:
        on, held = care.fixed, _caps(watch)
    if not on:
        raise SessionError("fixed-performance mode", "; ".join(told) or "it cannot be switched on", "send this report")
    time.sleep(SETTLE_S)
    after = _caps(watch)
    figures = {"told": told, "caps_khz": {"before": before, "on": held, "after": after}}
    # The marker goes when the phone's service has said yes to the end of the mode; the clocks say whether it did.
    marked = bench.adb.shell(f"[ -e {MARKER} ] && echo marked; true", idempotent=True).out.strip() == "marked"
    if marked or (after == held and after != before):
        why = "the phone refuses to switch it off" if marked else f"clocks stay capped as in it ({after} kHz)"
        raise SessionError("fixed-performance mode is still on", why, "restart the phone, and send this report")
    seen = "the caps of its clocks moved and are back" if held != before else "the caps of its clocks did not move"
    return f"switched on, and off again; {seen}", figures


def _caps(watch: PhoneWatch) -> dict[str, int | None]:
    """Return the highest clock that each cluster may have now, kHz, by its cores."""
    clusters = watch.state("during", 0.0).clusters
    return {",".join(map(str, cluster.cores)): cluster.cap_khz for cluster in clusters}


CHECKS: Mapping[str, Callable[[_Bench], Said]] = {
    "loader": _loader,
    "litert-cpu": _computes("android-cpu", "litert", "xnnpack"),
    "ort-cpu": _computes("android-cpu", "ort", "cpu"),
    "litert-gpu-fp32": _computes("android-gpu", "litert", "gpu-fp32"),
    "litert-gpu-fp16": _computes("android-gpu", "litert", "gpu-fp16"),
    "waits": _waits,
    "litert-profile": _profiles("android-cpu", "litert", "xnnpack"),
    "ort-profile": _profiles("android-cpu", "ort", "cpu"),
    "gpu-profile": _profiles("android-gpu", "litert", "gpu-fp16"),
    "threads": _threads,
    "cores": _cores,
    "deadline": _deadline,
    "hang-up": _hang_up,
    "pushed-once": _pushed_once,
    "state": _state,
    "steady-mode": _steady_mode,
}


def selftest(
    models: Sequence[Path], report: Path, *, serial: str | None = None, tell: Callable[[str], None] = lambda text: None
) -> tuple[Outcome, ...]:
    """Go through all checks on a phone and write the report; one that fails does not keep the others from running.

    Args:
        models: a .tflite or .onnx file, better both; the first of each format is used.
        report: the JSON file to write: the phone without its serial number, what was pushed to it, every outcome.
        serial: which phone; None: the only one attached.
        tell: told, in a line, which check begins.

    Raises:
        BadInputError: no phone, no harness for it, a file that is no model, or another mobench is measuring on it.
        LinkError: the phone goes out of reach before the first check.
    """
    bench = _Bench(find([serial] if serial else [])[0], [artifacts.read(path) for path in models])
    built = build.built(bench.phone.abi)
    with alone(bench.phone):
        bench.folder.clean()
        outcomes = tuple(_run(name, check, bench, tell) for name, check in CHECKS.items())
        try:
            bench.folder.clean()
        except MobenchError as error:
            tell(str(error))
    _write(report, bench.phone, built, outcomes)
    return outcomes


def _run(name: str, check: Callable[[_Bench], Said], bench: _Bench, tell: Callable[[str], None]) -> Outcome:
    tell(name)
    began = time.monotonic()
    status: Literal["ok", "no", "skipped"] = "ok"
    figures: dict[str, Any] = {}
    try:
        said, figures = check(bench)
    except _SkippedError as error:
        status, said = "skipped", str(error)
    except MobenchError as error:
        status, said = "no", str(error)
    seconds = round(time.monotonic() - began, 3)
    return Outcome(check=name, status=status, said=said, figures=figures, seconds=seconds)


def _write(path: Path, phone: Phone, built: build.Built, outcomes: Sequence[Outcome]) -> None:
    told = dataclasses.asdict(phone)
    serialno = told.pop("serialno")
    del told["serial"], told["boot_id"]
    held = []
    for runtime in RUNTIME_FORMATS:
        try:
            found = runtimes.find(phone.abi, runtime)
        except BadInputError:
            continue
        kept = {key: getattr(found, key) for key in ("runtime", "version", "source", "sha256", "notes")}
        held.append(kept)
    text = json.dumps(
        {
            "schema": SCHEMA,
            "mobench": __version__,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "phone": told,
            "phone_id": digest(serialno),
            "harness": dataclasses.asdict(built) | {"path": None},
            "runtimes": held,
            "checks": [dataclasses.asdict(each) for each in outcomes],
        },
        indent=1,
        default=str,
    )
    write_text(path, text + "\n")
