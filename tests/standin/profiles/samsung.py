"""A Galaxy S23 with Android 14: four clusters, thermal zones that may be read, an Adreno with kgsl's files.

Not a recording: composed from documented formats. Chip: Qualcomm's Snapdragon 8 Gen 2 for Galaxy (SM8550-AC), one
Cortex-X3 at 3.36 GHz, two A715 and two A710 at 2.80 GHz, three A510 at 2.02 GHz.
"""

from standin.profiles import Cluster, Profile, battery, power, thermal

PROFILE = Profile(
    serialno="STANDINGALAXY",
    properties={
        "ro.product.model": "SM-S911B",
        "ro.product.name": "dm1qxeea",
        "ro.product.device": "dm1q",
        "ro.product.brand": "samsung",
        "ro.product.manufacturer": "samsung",
        "ro.build.version.release": "14",
        "ro.build.version.sdk": "34",
        "ro.build.version.incremental": "S911BXXS4CXC1",
        "ro.build.fingerprint": "samsung/dm1qxeea/dm1q:14/UP1A.231005.007/S911BXXS4CXC1:user/release-keys",
        "ro.board.platform": "kalama",
        "ro.hardware": "qcom",
        "ro.hardware.egl": "adreno",
        "ro.hardware.vulkan": "adreno",
        "ro.soc.manufacturer": "QTI",
        "ro.soc.model": "SM8550",
        "ro.kernel.version": "5.15.123",
    },
    services={
        "battery": battery(level=64, tenths_c=291, usb=True, charge_uah=2_496_000),
        "thermalservice": thermal(
            0,
            {
                "AP": (34.1, 0),
                "BAT": (29.1, 2),
                "CHG": (30.3, 4),
                "PA": (32.0, 5),
                "SKIN": (31.4, 3),
                "SUBBAT": (28.8, 2),
            },
            cooling={"thermal-devfreq-0": 0, "thermal-cpufreq-0": 0},
        ),
        "power": power(),
        "SurfaceFlinger": "GLES: Qualcomm, Adreno (TM) 740, OpenGL ES 3.2 V@0676.42\n",
    },
    clusters=(
        Cluster(cores=(0, 1, 2), part="A510", min_khz=307_200, max_khz=2_016_000),
        Cluster(cores=(3, 4), part="A715", min_khz=499_200, max_khz=2_803_200),
        Cluster(cores=(5, 6), part="A710", min_khz=499_200, max_khz=2_803_200),
        Cluster(cores=(7,), part="X3", min_khz=595_200, max_khz=3_360_000),
    ),
    features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop "
    "sha3 sm3 sm4 asimddp sha512 asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp flagm2 frint i8mm bf16 bti",
    hardware="Qualcomm Technologies, Inc SM8550",
    memory_kb=7_401_236,
    governor="walt",
    zones={"cpu-0-0": 38_500, "cpu-1-0": 40_100, "cpu-1-8": 41_200, "gpuss-0": 37_000, "battery": 29_100},
    more_files={
        "/sys/class/kgsl/kgsl-3d0/gpu_model": "Adreno740v2\n",
        "/sys/class/kgsl/kgsl-3d0/gpuclk": "220000000\n",
        "/sys/class/kgsl/kgsl-3d0/max_pwrlevel": "0\n",
        "/sys/class/power_supply/battery/type": "Battery\n",
        "/sys/class/power_supply/battery/status": "Charging\n",
        "/sys/class/power_supply/battery/capacity": "64\n",
        "/sys/class/power_supply/battery/temp": "291\n",
    },
)
