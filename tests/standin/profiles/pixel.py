"""A Pixel 6 with Android 14: three clusters, a thermal HAL 2.0, no readable thermal zones.

Not a recording: composed from documented formats. Chip: Google's Tensor (GS101), two Cortex-X1 at 2.80 GHz, two A76 at
2.25 GHz, four A55 at 1.80 GHz.
"""

from standin.profiles import Cluster, Profile, battery, power, thermal

PROFILE = Profile(
    serialno="STANDINPIXEL",
    properties={
        "ro.product.model": "Pixel 6",
        "ro.product.name": "oriole",
        "ro.product.device": "oriole",
        "ro.product.brand": "google",
        "ro.product.manufacturer": "Google",
        "ro.build.version.release": "14",
        "ro.build.version.sdk": "34",
        "ro.build.version.incremental": "11386675",
        "ro.build.fingerprint": "google/oriole/oriole:14/AP1A.240305.019.A1/11386675:user/release-keys",
        "ro.board.platform": "gs101",
        "ro.hardware": "oriole",
        "ro.hardware.egl": "mali",
        "ro.hardware.vulkan": "mali",
        "ro.soc.manufacturer": "Google",
        "ro.soc.model": "GS101",
        "ro.kernel.version": "5.10.189",
    },
    services={
        "battery": battery(level=82, tenths_c=274, usb=True, charge_uah=3_412_000),
        "thermalservice": thermal(
            0,
            {
                "BIG": (41.0, 0),
                "MID": (39.0, 0),
                "LITTLE": (38.0, 0),
                "G3D": (36.0, 1),
                "battery": (27.4, 2),
                "VIRTUAL-SKIN": (30.115, 3),
                "usb_pwr_therm": (27.5, 4),
            },
            cooling={"thermal-cpufreq-0": 0, "thermal-cpufreq-1": 0, "thermal-cpufreq-2": 0, "thermal-gpufreq-0": 0},
        ),
        "power": power(),
        "SurfaceFlinger": "GLES: ARM, Mali-G78, OpenGL ES 3.2 v1.r38p1-01eac0\n",
    },
    clusters=(
        Cluster(cores=(0, 1, 2, 3), part="A55", min_khz=300_000, max_khz=1_803_000),
        Cluster(cores=(4, 5), part="A76", min_khz=400_000, max_khz=2_253_000),
        Cluster(cores=(6, 7), part="X1", min_khz=500_000, max_khz=2_802_000),
    ),
    features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    hardware="",
    memory_kb=7_755_864,
    governor="sched_pixel",
)
