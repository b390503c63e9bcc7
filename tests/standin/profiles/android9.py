"""An old phone with Android 9 in the manner of a Nokia 7 plus: two clusters, no thermalservice, no fixed performance.

Not a recording: composed from documented formats. Chip: Qualcomm's Snapdragon 660 (SDM660), four Kryo 260 Gold at
2.21 GHz and four Silver at 1.84 GHz, whose parts tell as Qualcomm's own 0x800 and 0x801; Arm's numbers stand here.
"""

from standin.profiles import Cluster, Profile, battery, power

PROFILE = Profile(
    serialno="STANDINNINE",
    properties={
        "ro.product.model": "Nokia 7 plus",
        "ro.product.name": "Onyx_00WW",
        "ro.product.device": "B2N_sprout",
        "ro.product.brand": "Nokia",
        "ro.product.manufacturer": "HMD Global",
        "ro.build.version.release": "9",
        "ro.build.version.sdk": "28",
        "ro.build.version.incremental": "00WW_3_51F",
        "ro.build.fingerprint": "Nokia/Onyx_00WW/B2N_sprout:9/PPR1.180610.011/00WW_3_51F:user/release-keys",
        "ro.board.platform": "sdm660",
        "ro.hardware": "qcom",
        "ro.hardware.egl": "adreno",
        "ro.kernel.version": "4.4.153",
    },
    services={
        "battery": battery(level=47, tenths_c=312, usb=True, charge_uah=1_752_000),
        "power": power(),
    },
    clusters=(
        Cluster(cores=(0, 1, 2, 3), part="A53", min_khz=633_600, max_khz=1_843_200),
        Cluster(cores=(4, 5, 6, 7), part="A73", min_khz=1_113_600, max_khz=2_208_000),
    ),
    features="half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt lpae evtstrm aes pmull sha1 sha2 crc32",
    hardware="Qualcomm Technologies, Inc SDM660",
    memory_kb=3_827_420,
    governor="interactive",
    zones={"tsens_tz_sensor0": 360, "pm660_tz": 38_212, "msm_therm": 35_000, "battery": 31_200},
    more_files={
        "/sys/class/power_supply/battery/type": "Battery\n",
        "/sys/class/power_supply/battery/status": "Charging\n",
        "/sys/class/power_supply/battery/capacity": "47\n",
        "/sys/class/power_supply/battery/temp": "312\n",
    },
    fixed_performance=False,
    lacks=("settaskprofile",),
)
