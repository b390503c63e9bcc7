"""What a phone says of itself, which of those attached is meant, and which cores its threads get."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_adb import SHELLS, FakeAdb

from mobench.errors import BadInputError, LinkError
from runners.adb import Attached
from runners.android import phone as phones
from runners.android.phone import Phone, choose_cores, describe, find

CPU = "/sys/devices/system/cpu"
GETPROP = """[ro.build.fingerprint]: [google/oriole/oriole:14/AP1A/1:user/release-keys]
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
[ro.odd]: [two
lines]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a,armeabi]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 6]
[ro.serialno]: [1A2B3C]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [GS101]
[ro.hardware.egl]: [mali]"""


def cpuinfo(parts: Sequence[str]) -> str:
    blocks = [f"processor\t: {at}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n" for at, part in enumerate(parts)]
    return "\n".join(blocks) + "\nHardware\t: Qualcomm Technologies, Inc SM8150"


def policy(cores: Sequence[int], khz: int, *, capacity: int | None = None) -> dict[str, object]:
    folder = f"{CPU}/cpufreq/policy{cores[0]}"
    files: dict[str, object] = {
        f"{folder}/related_cpus": " ".join(map(str, cores)),
        f"{folder}/scaling_max_freq": khz,
        f"{folder}/cpuinfo_max_freq": khz,
    }
    return files | ({f"{CPU}/cpu{core}/cpu_capacity": capacity for core in cores} if capacity else {})


PIXEL: Mapping[str, object] = {
    "/proc/sys/kernel/random/boot_id": "c0ffee",
    "/proc/meminfo": "MemTotal:        7755864 kB",
    "/proc/cpuinfo": cpuinfo(["0xd05"] * 4 + ["0xd0b"] * 2 + ["0xd44"] * 2),
    f"{CPU}/online": "0-7",
    **policy([0, 1, 2, 3], 1_803_000, capacity=160),
    **policy([4, 5], 2_253_000, capacity=498),
    **policy([6, 7], 2_802_000, capacity=1024),
}


@pytest.fixture(params=SHELLS)
def adb(request: pytest.FixtureRequest, tmp_path: Path) -> FakeAdb:
    fake = FakeAdb(tmp_path / "phone", shell=request.param)
    fake.program("getprop", f"cat <<'E'\n{GETPROP}\nE")
    fake.program(
        "dumpsys", '[ "$1" = SurfaceFlinger ] && echo " x" && echo "GLES: ARM, Mali-G78, OpenGL ES 3.2 v1.r38"'
    )
    return fake


def test_a_phone_tells_what_it_is_in_one_round_trip(adb: FakeAdb) -> None:
    adb.write(PIXEL)
    phone = describe(adb)
    assert len(adb.scripts) == 1
    assert (phone.serial, phone.serialno, phone.name, phone.android, phone.sdk) == (
        "FAKE01", "1A2B3C", "Google Pixel 6", "14", 34,
    )  # fmt: skip
    assert (phone.soc, phone.gpu, phone.abi, phone.memory_mb) == ("Google GS101", "Mali-G78", "arm64-v8a", 7574)
    assert phone.abis == ("arm64-v8a", "armeabi-v7a", "armeabi") and phone.boot_id == "c0ffee"
    assert phone.fingerprint.endswith("release-keys") and phone.has_fixed_performance and phone.sdk >= 29
    assert phone.cores and set(phone.cores) <= set(range(8))  # this host's shell says which are open to it
    assert [dict(cluster) for cluster in phone.clusters] == [
        {"cores": [0, 1, 2, 3], "max_khz": 1_803_000, "part": "0x41/0xd05", "capacity": 160},
        {"cores": [4, 5], "max_khz": 2_253_000, "part": "0x41/0xd0b", "capacity": 498},
        {"cores": [6, 7], "max_khz": 2_802_000, "part": "0x41/0xd44", "capacity": 1024},
    ]


def test_an_old_phone_that_hides_its_clocks_is_described_by_what_it_shows(adb: FakeAdb) -> None:
    adb.write({"/proc/cpuinfo": cpuinfo(["0xd05"] * 6 + ["0xd0b"] * 2)})
    adb.program("getprop", "echo '[ro.product.model]: [OLD 1]'; echo '[ro.product.cpu.abi]: [armeabi-v7a]'")
    adb.program("dumpsys", "exit 1")
    phone = describe(adb)
    assert phone.soc == "Qualcomm Technologies, Inc SM8150" and phone.gpu is None and phone.memory_mb is None
    assert phone.serialno == "FAKE01" and phone.sdk == 0 and not phone.has_fixed_performance
    assert [cluster["cores"] for cluster in phone.clusters] == [[0, 1, 2, 3, 4, 5], [6, 7]]
    with pytest.raises(BadInputError, match="armeabi-v7a only"):
        _ = phone.abi


@pytest.mark.parametrize(
    ("line", "gpu"),
    [
        ("GLES: Qualcomm, Adreno (TM) 740, OpenGL ES 3.2 V@0676.32 (GIT@x, y)", "Adreno (TM) 740"),
        (
            "GLES: Samsung Electronics Co., Ltd., ANGLE (Samsung Xclipse 920) on Vulkan 1.1, OpenGL ES 3.2",
            "ANGLE (Samsung Xclipse 920) on Vulkan 1.1",
        ),
        ("", "Adreno730v2"),
        ("GLES: nothing known", "Adreno730v2"),
    ],
)
def test_the_gpus_name_is_its_drivers_else_the_kernels(line: str, gpu: str) -> None:
    assert phones._gpu({"gles": line, "/sys/class/kgsl/kgsl-3d0/gpu_model": "Adreno730v2"}, "adreno") == gpu
    assert phones._gpu({}, "adreno") == "adreno" and phones._gpu({}, "") is None


def make(
    clusters: Sequence[tuple[Sequence[int], int]] = (), cores: Sequence[int] | None = None, **fields: Any
) -> Phone:
    known = [core for each, _ in clusters for core in each]
    said: dict[str, Any] = {
        "serial": "A", "serialno": "A", "manufacturer": "Google", "model": "Pixel", "android": "14", "sdk": 34,
        "soc": "", "abis": ("arm64-v8a",), "fingerprint": "", "boot_id": "1", "gpu": None, "memory_mb": None,
        "clusters": tuple({"cores": list(each), "max_khz": khz} for each, khz in clusters),
        "cores": tuple(known if cores is None else cores),
    }  # fmt: skip
    return Phone(**{**said, **fields})


# Cores and highest clocks (kHz), the slowest cluster first.
PIXEL_6 = (((0, 1, 2, 3), 1_803_000), ((4, 5), 2_253_000), ((6, 7), 2_802_000))
PIXEL_8_PRO = (((0, 1, 2, 3), 1_704_000), ((4, 5, 6, 7), 2_367_000), ((8,), 2_914_000))
GALAXY_S10 = (((0, 1, 2, 3), 1_785_600), ((4, 5, 6), 2_419_200), ((7,), 2_841_600))  # Snapdragon 855
GALAXY_A52 = (((0, 1, 2, 3, 4, 5), 1_804_800), ((6, 7), 2_304_000))  # Snapdragon 720G
PIXEL_2 = (((0, 1, 2, 3), 1_900_800), ((4, 5, 6, 7), 2_361_600))
ALL_EQUAL = (((0, 1, 2, 3), 1_400_000),)


@pytest.mark.parametrize(
    ("clusters", "threads", "cores"),
    [
        (PIXEL_6, 1, (7,)),
        (PIXEL_6, 2, (6, 7)),
        (PIXEL_6, 4, (4, 5, 6, 7)),  # no fast cluster has four: X1 and A76, but no A55
        (PIXEL_6, 6, (2, 3, 4, 5, 6, 7)),
        (PIXEL_8_PRO, 1, (8,)),  # the X3 alone
        (PIXEL_8_PRO, 2, (6, 7)),  # A715s: the X3 beside one of them would wait for it
        (PIXEL_8_PRO, 4, (4, 5, 6, 7)),
        (GALAXY_S10, 1, (7,)),
        (GALAXY_S10, 3, (4, 5, 6)),
        (GALAXY_S10, 4, (4, 5, 6, 7)),
        (GALAXY_A52, 2, (6, 7)),
        (GALAXY_A52, 4, (4, 5, 6, 7)),
        (PIXEL_2, 4, (4, 5, 6, 7)),
        (PIXEL_2, 8, tuple(range(8))),
        (PIXEL_2, 16, tuple(range(8))),
        (ALL_EQUAL, 2, (2, 3)),
        (ALL_EQUAL, 1, (3,)),
        ((), 2, ()),
    ],
)
def test_threads_get_fast_cores_of_one_kind(
    clusters: Sequence[tuple[Sequence[int], int]], threads: int, cores: tuple[int, ...]
) -> None:
    assert choose_cores(make(clusters), threads) == cores


def test_cores_that_are_switched_off_are_not_taken() -> None:
    assert choose_cores(make(PIXEL_6, cores=range(6)), 1) == (5,)
    assert choose_cores(make(PIXEL_6, cores=range(6)), 2) == (4, 5)
    assert choose_cores(make(PIXEL_6, cores=(0, 1)), 4) == (0, 1)
    assert choose_cores(make(PIXEL_6, cores=()), 2) == (6, 7)  # it does not tell
    assert choose_cores(make((), cores=(0, 1)), 1) == (0, 1)


def test_clusters_of_one_clock_are_told_apart_by_their_capacity(adb: FakeAdb) -> None:
    adb.write(policy([0, 1, 2, 3], 2_000_000, capacity=1024) | policy([4, 5, 6, 7], 2_000_000, capacity=426))
    assert [cluster["cores"][0] for cluster in describe(adb).clusters] == [4, 0]


class Desk:
    """Phones on a desk: what adb lists, and what each says of itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.listed: list[Attached] = []
        self.phones: dict[str, Phone | LinkError] = {}
        monkeypatch.delenv("ANDROID_SERIAL", raising=False)
        monkeypatch.setattr(phones, "attached", lambda program: tuple(self.listed))
        monkeypatch.setattr(phones, "describe", lambda adb: self._describe(adb.serial))

    def add(self, serial: str, state: str = "device", **fields: Any) -> None:
        """Attach one."""
        self.listed.append(Attached(serial=serial, state=state, mend="" if state == "device" else "do this"))
        self.phones[serial] = make(serial=serial, **{"serialno": serial, "boot_id": serial, **fields})

    def _describe(self, serial: str) -> Phone:
        phone = self.phones[serial]
        if isinstance(phone, LinkError):
            raise phone
        return phone


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


def test_the_only_phone_needs_no_name(desk: Desk) -> None:
    with pytest.raises(BadInputError, match=r"no phone: adb sees none.*USB debugging"):
        find()
    desk.add("A", "unauthorized")
    with pytest.raises(BadInputError, match="phone A: its state is unauthorized; do this"):
        find()
    desk.add("B")
    assert [phone.serial for phone in find()] == ["B"]


def test_of_several_those_named_are_meant(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.add("A")
    desk.add("B", manufacturer="samsung", model="SM-G973F")
    desk.add("C", "offline")
    with pytest.raises(BadInputError, match=r"several.*A \(Google Pixel\), B \(samsung SM-G973F\); name those"):
        find()
    assert [phone.serial for phone in find(["B"])] == ["B"]
    assert [phone.serial for phone in find(["B", "A"])] == ["B", "A"]
    with pytest.raises(BadInputError, match="phone C: its state is offline"):
        find(["A", "C"])
    with pytest.raises(BadInputError, match="phone D: it is not attached; there are: A, B, C"):
        find(["D"])
    monkeypatch.setenv("ANDROID_SERIAL", "A")
    assert [phone.serial for phone in find()] == ["A"]


def test_one_phone_over_usb_and_wifi_is_one(desk: Desk) -> None:
    desk.add("192.168.1.7:5555", serialno="1A2B", boot_id="x")
    desk.add("1A2B", serialno="1A2B", boot_id="x")
    assert [phone.serial for phone in find()] == ["1A2B"]
    assert [phone.serial for phone in find(["192.168.1.7:5555"])] == ["192.168.1.7:5555"]


def test_two_emulators_with_one_number_are_two(desk: Desk) -> None:
    for serial in ("emulator-5554", "emulator-5556"):
        desk.add(serial, serialno="EMULATOR36X1X9X0", boot_id=serial)
    with pytest.raises(BadInputError, match="several"):
        find()


def test_a_phone_is_found_by_its_own_number_over_any_cable_even_when_another_does_not_answer(desk: Desk) -> None:
    desk.add("B")
    desk.phones["B"] = LinkError("phone B", "gone", "")
    desk.add("192.168.1.7:5555", serialno="1A2B")
    assert [phone.serial for phone in find(["1A2B"])] == ["192.168.1.7:5555"]
    with pytest.raises(LinkError):
        find(["B"])
