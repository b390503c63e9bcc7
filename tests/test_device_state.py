"""A device's state, from trees of files as Linux and Android have them; exact, and absent where nothing is told."""

import fnmatch
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobench.records import Cluster, DeviceState
from runners import device_state, dumpsys
from runners.android.care import body_c
from runners.device_files import Files, Source, family
from runners.device_state import Watch

POLICY = "/sys/devices/system/cpu/cpufreq/policy"
RAPL = "/sys/class/powercap/intel-rapl:"
SUPPLY = "/sys/class/power_supply"
ZONE = "/sys/class/thermal/thermal_zone"


def write(root: Path, files: Mapping[str, object]) -> None:
    for path, text in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")


def clock(number: int, cores: str, governor: str, now: int, cap: int, top: int) -> dict[str, object]:
    names = ("related_cpus", "scaling_governor", "scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq")
    values = (cores, governor, now, cap, top)
    return {f"{POLICY}{number}/{name}": value for name, value in zip(names, values, strict=True)}


def stat(busy: int, idle: int, steal: int = 0, cores: int = 2) -> dict[str, object]:
    """A machine's CPU time, the busy part spread over every kind of it."""
    parts = [busy - 4 * (busy // 5), *[busy // 5] * 2]
    line = f"{parts[0]} {parts[1]} {parts[2]} {idle - 7} 7 {busy // 5} {busy // 5} {steal} 0 0"
    each = "".join(f"\ncpu{core} 0 0 0 0 0 0 0 0 0 0" for core in range(cores))
    return {"/proc/stat": f"cpu  {line}{each}\nintr 1 2 3"}


def process(pid: int, parent: int, own: int, awaited: int = 0, children: str = "") -> dict[str, object]:
    """A process with a name that would mislead a parser, and its CPU time in user and system mode."""
    times = f"{own - own // 3} {own // 3} {awaited - awaited // 3} {awaited // 3}"
    fields = f"S {parent} 1 1 0 -1 4194304 100 0 0 0 {times} 20 0 1 0 1124378 3133440"
    return {f"/proc/{pid}/stat": f"{pid} (a ) R 9 b) {fields}", f"/proc/{pid}/task/{pid}/children": children}


PHONE: dict[str, object] = {
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "sched_pixel",
    **clock(0, "0 1 2 3", "sched_pixel", 574_000, 1_803_000, 1_803_000),
    **clock(4, "4 5", "sched_pixel", 1_197_000, 2_253_000, 2_253_000),
    **clock(6, "6 7", "sched_pixel", 2_802_000, 1_826_000, 2_802_000),  # held down by the thermal service
    f"{ZONE}0/type": "BIG",
    f"{ZONE}0/temp": 61_500,
    f"{ZONE}1/type": "tsens",
    f"{ZONE}1/temp": 40_000,
    f"{ZONE}10/type": "tsens",
    f"{ZONE}10/temp": -1_500,
    f"{ZONE}2/type": "gone",
    f"{ZONE}2/temp": -274_000,
    f"{SUPPLY}/battery/type": "Battery",
    f"{SUPPLY}/battery/status": "Discharging",
    f"{SUPPLY}/battery/capacity": 83,
    f"{SUPPLY}/battery/charge_counter": 3_651_000,
    f"{SUPPLY}/battery/temp": 287,
    f"{SUPPLY}/usb/type": "USB",
    f"{SUPPLY}/usb/online": 0,
    "/proc/loadavg": "3.25 2.10 1.00 2/2500 4711",
    "/proc/meminfo": "MemTotal:        7748000 kB\nMemFree:  100 kB\nMemAvailable:    3145728 kB",
}
THERMAL = """IsStatusOverride: false
Thermal Status: 2
Cached temperatures:
	Temperature{mValue=99.0, mType=3, mName=old, mStatus=0}
Current temperatures from HAL:
	Temperature{mValue=41.25, mType=3, mName=VIRTUAL-SKIN, mStatus=2}
	Temperature{mValue=NaN, mType=4, mName=USB, mStatus=0}
	Temperature{mValue=-3.0, mType=5, mName=PA, mStatus=0}
	Temperature{mValue=38.5, mType=3, mName=quiet_therm, mStatus=0}
	Temperature{mValue=31.0, mType=2, mName=bms, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=1, mType=2, mName=fan}
Temperature static thresholds from HAL:
"""
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Charge counter: 2500000
  level: 71
  scale: 100
  temperature: 326
"""


class Told:
    """A device in a dictionary, services too, that counts how often it is asked."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts, self.asked = texts, 0

    def read_many(self, patterns: Sequence[str]) -> dict[str, str]:
        """Match as a shell does, whose ``*`` stops at a slash."""
        self.asked += 1
        return {
            path: text
            for path, text in self.texts.items()
            if any(path.count("/") == p.count("/") and fnmatch.fnmatchcase(path, p) for p in patterns)
        }


def test_a_phone_with_clusters_fills_the_record(tmp_path: Path) -> None:
    write(tmp_path, PHONE | stat(1000, 9000, cores=8) | process(50, 1, 100) | process(60, 1, 7))
    watch = Watch(Files(tmp_path), lambda: [50])
    write(tmp_path, stat(1600, 9350, 50, cores=8) | process(50, 1, 300) | process(60, 1, 9))
    assert watch.state("during", 12.5) == DeviceState(
        when="during",
        t_s=12.5,
        clusters=(
            Cluster(cores=(0, 1, 2, 3), governor="sched_pixel", freq_khz=574_000, cap_khz=1_803_000, max_khz=1_803_000),
            Cluster(cores=(4, 5), governor="sched_pixel", freq_khz=1_197_000, cap_khz=2_253_000, max_khz=2_253_000),
            Cluster(cores=(6, 7), governor="sched_pixel", freq_khz=2_802_000, cap_khz=1_826_000, max_khz=2_802_000),
        ),
        temps_c={"BIG": 61.5, "tsens": 40.0, "tsens-2": -1.5, "battery": 28.7},
        load_1m=3.25,
        others_share=0.4,  # 600 of 1000 ticks were busy, 200 of them ours
        steal_share=0.05,
        memory_available_mb=3072,
        power="battery",
        battery_percent=83,
        charge_uah=3_651_000,
    )


def test_a_phone_behind_a_cable_is_asked_once_a_state_and_its_services_fill_what_its_files_do_not_tell() -> None:
    source = Told({"dumpsys:thermalservice": THERMAL, "dumpsys:battery": BATTERY, f"{ZONE}0/type": "BIG"})
    source.texts[f"{ZONE}0/temp"] = "50000"
    watch = Watch(source, lambda: [50])
    source.asked = 0
    state = watch.state("before", 0.0)
    assert source.asked == 1
    assert state.thermal_status == "moderate"
    hal_c = {"VIRTUAL-SKIN": 41.25, "PA": -3.0, "quiet_therm (skin)": 38.5, "bms (battery)": 31.0}
    assert state.temps_c == {"BIG": 50.0, "battery": 32.6, **hal_c}
    assert (state.power, state.battery_percent, state.charge_uah) == ("mains", 71, 2_500_000)


def test_a_skin_sensor_is_known_by_its_type_whatever_its_maker_calls_it() -> None:
    source = Told({"dumpsys:thermalservice": THERMAL.replace("VIRTUAL-SKIN", "xo_therm"), "dumpsys:battery": BATTERY})
    assert body_c(Watch(source, lambda: [50]).state("before", 0.0)) == 41.25


@pytest.mark.parametrize("reading", [274, 27, 0, -12])
def test_a_zone_in_other_units_than_the_kernels_is_left_out(reading: int) -> None:
    zone = {
        f"{ZONE}0/type": "battery",
        f"{ZONE}0/temp": str(reading),
        f"{ZONE}1/type": "skin",
        f"{ZONE}1/temp": "31000",
    }
    assert Watch(Told(zone), lambda: [50]).state("before", 0.0).temps_c == {"skin": 31.0}
    zone |= {"dumpsys:thermalservice": THERMAL.replace("bms", "battery"), "dumpsys:battery": BATTERY}
    assert Watch(Told(zone), lambda: [50]).state("before", 0.0).temps_c["battery"] == 31.0


def test_a_zone_does_not_override_what_android_says_of_the_same_sensor() -> None:
    zone = {f"{ZONE}0/type": "battery", f"{ZONE}0/temp": "2740", "dumpsys:battery": BATTERY}
    assert Watch(Told(zone), lambda: [50]).state("before", 0.0).temps_c == {"battery": 32.6}


def test_a_thermal_service_without_a_hal_does_not_say_that_a_phone_is_cool() -> None:
    assert dumpsys.thermal("Thermal Status: 0\nCached temperatures:\nHAL Ready: false\n") == (None, {})
    assert dumpsys.thermal("Thermal Status: 0\nHAL Ready: true\n") == ("none", {})


def test_services_that_say_nothing_give_nothing() -> None:
    assert dumpsys.thermal("") == dumpsys.thermal("Can't find service: thermalservice") == (None, {})
    assert dumpsys.thermal("Thermal Status: 0\n") == ("none", {})
    assert dumpsys.battery("Can't find service: battery") == (None, None, None, None)
    assert dumpsys.battery("  AC powered: false\n  Charge counter: 0\n") == ("battery", None, None, None)


def test_cores_without_policies_are_grouped_by_what_they_say_else_alone(tmp_path: Path) -> None:
    cpu = "/sys/devices/system/cpu"
    for core, related in ((0, "0 1"), (1, "0 1"), (2, ""), (10, "")):
        write(tmp_path, {f"{cpu}/cpu{core}/cpufreq/scaling_max_freq": 1_000 * core})
        if related:
            write(tmp_path, {f"{cpu}/cpu{core}/cpufreq/related_cpus": related})
    write(tmp_path, {f"{cpu}/cpu10/cpufreq/scaling_cur_freq": "<unknown>"})
    assert Watch(Files(tmp_path)).state("before", 0.0).clusters == (
        Cluster(cores=(0, 1), cap_khz=0),
        Cluster(cores=(2,), cap_khz=2_000),
        Cluster(cores=(10,), cap_khz=10_000),
    )


def test_sensors_of_chips_come_in_only_where_no_zone_is_the_processors(tmp_path: Path) -> None:
    chips = {
        "/sys/class/hwmon/hwmon0/name": "k10temp",
        "/sys/class/hwmon/hwmon0/temp1_input": 52_125,
        "/sys/class/hwmon/hwmon0/temp1_label": "Tctl",
        "/sys/class/hwmon/hwmon1/name": "nvme",
        "/sys/class/hwmon/hwmon1/temp1_input": 30_000,
        "/sys/class/hwmon/hwmon2/name": "nvme",
        "/sys/class/hwmon/hwmon2/temp1_input": 31_000,
    }
    write(tmp_path, chips | {f"{ZONE}0/type": "acpitz", f"{ZONE}0/temp": 16_800})
    temps_c = Watch(Files(tmp_path)).state("before", 0.0).temps_c
    assert temps_c == {"acpitz": 16.8, "k10temp Tctl": 52.125, "nvme temp1": 30.0, "nvme temp1-2": 31.0}
    write(tmp_path, {f"{ZONE}1/type": "x86_pkg_temp", f"{ZONE}1/temp": 55_000})
    assert Watch(Files(tmp_path)).state("before", 0.0).temps_c == {"acpitz": 16.8, "x86_pkg_temp": 55.0}


@pytest.mark.parametrize(
    ("files", "power"),
    [
        ({"AC/type": "Mains", "AC/online": 1, "BAT0/type": "Battery", "BAT0/status": "Discharging"}, "mains"),
        ({"AC/type": "Mains", "AC/online": 0, "BAT0/type": "Battery", "BAT0/status": "Full"}, "battery"),
        ({"BAT0/type": "Battery", "BAT0/status": "Charging"}, "mains"),
        ({"BAT0/type": "Battery", "BAT0/status": "Discharging"}, "battery"),
        ({"BAT0/type": "Battery", "BAT0/status": "Unknown"}, None),
        ({"mouse/type": "Battery", "mouse/scope": "Device", "mouse/status": "Discharging"}, None),
        ({"ups/type": "UPS", "ups/online": 1}, None),
        ({}, None),
    ],
)
def test_power_comes_from_what_is_plugged_in(files: dict[str, object], power: str | None, tmp_path: Path) -> None:
    write(tmp_path, {f"{SUPPLY}/{path}": value for path, value in files.items()})
    assert Watch(Files(tmp_path)).state("before", 0.0).power == power


def test_a_laptops_charge_is_told_by_another_name(tmp_path: Path) -> None:
    write(tmp_path, {f"{SUPPLY}/BAT0/type": "Battery", f"{SUPPLY}/BAT0/charge_now": 4_100_000})
    assert Watch(Files(tmp_path)).state("before", 0.0).charge_uah == 4_100_000


def test_our_processes_are_this_one_its_descendants_and_what_it_has_waited_for(tmp_path: Path) -> None:
    pid = os.getpid()
    ours = process(pid, 1, 100, 40, "7001 7002") | process(7001, pid, 50, 0, "7003") | process(7003, 7001, 30)
    write(tmp_path, stat(1000, 9000) | ours | process(7002, pid, 10) | process(8000, 1, 500))
    watch = Watch(Files(tmp_path))
    # 7002 ended with 20 ticks more and was waited for, 7003 took 70 more, this process 10, a stranger 300.
    ours = process(pid, 1, 110, 70, "7001") | process(7001, pid, 50, 0, "7003") | process(7003, 7001, 100)
    for file in ("stat", "task/7002/children"):
        (tmp_path / f"proc/7002/{file}").unlink()
    write(tmp_path, stat(1400, 9600) | ours | process(8000, 1, 800))
    assert watch.state("during", 5.0).others_share == 0.3


def test_descendants_are_found_without_lists_of_children_too(tmp_path: Path) -> None:
    tree = process(5, 1, 0, 0, "6 7") | process(6, 5, 0) | process(7, 5, 0, 0, "12") | process(12, 7, 0)
    write(tmp_path, tree | process(13, 1, 0))
    assert sorted(family(Files(tmp_path), 5)) == [5, 6, 7, 12]
    for path in tmp_path.rglob("children"):
        path.unlink()
    assert sorted(family(Files(tmp_path), 5)) == [5, 6, 7, 12]


def test_a_share_of_too_short_a_span_waits_for_the_next_state(tmp_path: Path) -> None:
    write(tmp_path, stat(1000, 9000) | process(50, 1, 0))
    watch = Watch(Files(tmp_path), lambda: [50])
    write(tmp_path, stat(1040, 9059))
    assert watch.state("before", 0.0).others_share is None  # 99 ticks on two cores
    write(tmp_path, stat(1090, 9110))
    assert watch.state("during", 1.0).others_share == 0.45  # 90 of 200, those 99 among them
    write(tmp_path, stat(1090, 9310))
    assert watch.state("after", 2.0).others_share == 0.0


def test_where_our_own_share_is_unknown_that_of_others_is_too(tmp_path: Path) -> None:
    write(tmp_path, stat(1000, 9000))
    watch = Watch(Files(tmp_path), lambda: [50])
    write(tmp_path, stat(1100, 9800, 100))
    state = watch.state("during", 5.0)
    assert state.others_share is None and state.steal_share == 0.1
    assert watch.steal_ticks() == 100


def package(number: str, name: str, energy_uj: int, range_uj: int = 1_000_000) -> dict[str, object]:
    folder = f"{RAPL}{number}"
    return {
        f"{folder}/name": name,
        f"{folder}/energy_uj": energy_uj,
        f"{folder}/max_energy_range_uj": range_uj,
    }


def test_energy_is_that_of_the_packages_and_goes_on_where_a_counter_begins_anew(tmp_path: Path) -> None:
    parts = package("0:0", "core", 5) | package("2", "psys", 7)
    write(tmp_path, package("0", "package-0", 999_000) | package("1", "package-1", 100, 2_000_000) | parts)
    watch = Watch(Files(tmp_path))
    first = watch.energy_uj()
    assert first == 999_100
    write(tmp_path, {f"{RAPL}0/energy_uj": 500, f"{RAPL}1/energy_uj": 300})
    assert watch.energy_uj() == first + 1_500 + 200
    write(tmp_path, {f"{RAPL}0/energy_uj": 600})
    assert watch.state("after", 9.0).energy_uj == {"package-0": 1_000_600, "package-1": 300}
    assert device_state.machine(Files(tmp_path))["energy"] == {
        "range_uj": {"package-0": 1_000_000, "package-1": 2_000_000},
        "update_s": 0.001,
    }


def test_energy_that_may_not_be_read_is_absent(tmp_path: Path) -> None:
    write(tmp_path, package("0", "package-0", 1) | package("1", "package-1", 1))
    watch = Watch(Files(tmp_path))
    assert watch.energy_uj() == 2
    (tmp_path / f"{RAPL}1/energy_uj"[1:]).unlink()
    assert watch.energy_uj() is None and watch.state("after", 1.0).energy_uj == {}
    (tmp_path / f"{RAPL}0/energy_uj"[1:]).unlink()
    assert Watch(Files(tmp_path)).energy_uj() is None
    assert "energy" not in device_state.machine(Files(tmp_path))


@given(st.integers(0, 999), st.integers(0, 999))
def test_a_difference_of_counters_is_what_was_taken(start: int, taken: int) -> None:
    assert device_state.energy_between(start, (start + taken) % 1000, 1000) == taken


def test_a_phone_is_described(tmp_path: Path) -> None:
    core = "processor\t: {}\nBogoMIPS\t: 49.15\nFeatures\t: fp asimd asimdhp asimddp i8mm bf16 sve2\n"
    core += "CPU implementer\t: 0x41\nCPU part\t: {}\n\n"
    cores = "".join(core.format(n, part) for n, part in enumerate(["0xd05"] * 4 + ["0xd41"] * 2 + ["0xd44"] * 2))
    write(tmp_path, PHONE | {"/proc/cpuinfo": cores + "Hardware\t: Tensor"})
    write(tmp_path, {"/proc/sys/kernel/ostype": "Linux", "/proc/sys/kernel/osrelease": "5.10.157-android13"})
    machine = device_state.machine(Files(tmp_path))
    assert machine == {
        "cpu": "Tensor",
        "cores": 8,
        "kernel": "Linux 5.10.157-android13",
        "extensions": ["asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve2"],
        "virtual": False,
        "memory_mb": 7566,
        "governor": "sched_pixel",
        "clusters": [
            {"cores": [0, 1, 2, 3], "max_khz": 1_803_000, "part": "0x41/0xd05"},
            {"cores": [4, 5], "max_khz": 2_253_000, "part": "0x41/0xd41"},
            {"cores": [6, 7], "max_khz": 2_802_000, "part": "0x41/0xd44"},
        ],
        "power_supplies": {"battery": "Battery", "usb": "USB"},
    }


def test_a_virtual_machine_names_its_hypervisor_and_system(tmp_path: Path) -> None:
    vendor = {"/sys/class/dmi/id/sys_vendor": "QEMU", "/etc/os-release": 'NAME="x"\nPRETTY_NAME="Debian 12"'}
    write(tmp_path, vendor | {"/proc/cpuinfo": "processor : 0\nmodel name : Xeon\nmicrocode : 0x1\nflags : fpu avx2"})
    metal = device_state.machine(Files(tmp_path))
    assert not metal["virtual"] and "hypervisor" not in metal
    write(tmp_path, {"/proc/cpuinfo": "processor : 0\nmodel name : Xeon\nmicrocode : 0x1\nflags : hypervisor avx2"})
    machine = device_state.machine(Files(tmp_path))
    assert machine["virtual"] and machine["hypervisor"] == "QEMU"
    assert (machine["os"], machine["microcode"], machine["extensions"]) == ("Debian 12", "0x1", ["avx2"])


def test_what_tells_nothing_is_absent_and_never_an_error(tmp_path: Path) -> None:
    watch = Watch(Files(tmp_path))
    assert watch.state("before", 0.0) == DeviceState(when="before", t_s=0.0)
    assert watch.energy_uj() is None and watch.memory_available_mb() is None and watch.steal_ticks() == 0
    assert device_state.machine(Files(tmp_path)) == {"cpu": "unknown", "extensions": [], "virtual": False}


PATHS = [
    *PHONE,
    *stat(0, 9),
    *process(50, 1, 0),
    *package("0", "", 0),
    "dumpsys:thermalservice",
    "dumpsys:battery",
    "/proc/cpuinfo",
    "/sys/class/hwmon/hwmon0/temp1_input",
]
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["package-0", "-5", "9" * 5000, "²", "nan", "Battery", "cpu  1 2", "MemAvailable: x kB", THERMAL]),
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(PATHS), TEXTS), st.dictionaries(st.sampled_from(PATHS), TEXTS))
def test_no_text_in_any_file_is_an_error(before: dict[str, str], after: dict[str, str]) -> None:
    source = Told(before)
    device_state.machine(source)
    watch = Watch(source, lambda: [50])
    source.texts = before | after
    assert watch.state("during", 1.0).when == "during"


def test_files_are_read_as_they_lie(tmp_path: Path) -> None:
    write(tmp_path, {"/a/b1/c": " x\0", "/a/b2/c": "y", "/a/b2/d/c": "no"})
    (tmp_path / "a/b3/c").mkdir(parents=True)
    (tmp_path / "a/b4").mkdir()
    (tmp_path / "a/b4/c").write_bytes(b"\xff\n")
    source: Source = Files(tmp_path)
    assert source.read_many(["/a/b*/c", "/a/missing", "dumpsys:battery"]) == {
        "/a/b1/c": "x",
        "/a/b2/c": "y",
        "/a/b4/c": "\ufffd",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_what_our_children_take_is_not_the_others() -> None:
    """On this machine as it is: a child's second is counted as ours, while it lives and after."""
    burn = "import time\nwhile time.process_time() < 1: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        watch = Watch()
        before = watch._ticks
        assert child.stdout and child.stdin and before and before.ours is not None
        child.stdout.readline()
        state = watch.state("during", 1.0)
        living = watch._ticks
        assert living and living.ours is not None and living.ours - before.ours >= 80
        assert state.others_share is not None and state.memory_available_mb and state.load_1m is not None
        child.stdin.close()
    assert device_state.Watch().steal_ticks() >= 0
    ended = device_state._ticks(Files().read_many(["/proc/stat", f"/proc/{os.getpid()}/stat"]), [os.getpid()])
    assert ended and ended.ours is not None and ended.ours >= living.ours


def test_cores_that_a_phone_has_switched_off_are_counted_too(tmp_path: Path) -> None:
    """Else a campaign could not be taken up: the phone would be another one while two cores sleep."""
    write(tmp_path, {"/proc/cpuinfo": "\n\n".join(f"processor\t: {core}" for core in (0, 1, 2, 3, 6, 7))})
    assert device_state.machine(Files(tmp_path))["cores"] == 6
    write(tmp_path, {"/sys/devices/system/cpu/present": "0-7"})
    assert device_state.machine(Files(tmp_path))["cores"] == 8
