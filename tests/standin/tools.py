"""Vulkan in software, which `fetch.sh` unpacks: a GPU's code path where there is no GPU. It says nothing of speed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HOW_TO_GET_VULKAN = "needs Vulkan in software: make .venv/standin/fetched (from Debian packages, no root)"


def vulkan() -> dict[str, str] | None:
    """Return the environment in which LiteRT's GPU accelerator finds SwiftShader, None where it has not been fetched.

    A driver that the caller's environment names goes before.
    """
    if "VK_ICD_FILENAMES" in os.environ:
        return {name: os.environ[name] for name in ("VK_ICD_FILENAMES", "LD_LIBRARY_PATH") if name in os.environ}
    folder = Path(sys.prefix) / "standin" / "lib"
    driver = folder / "vk_swiftshader_icd.json"
    if not driver.is_file():
        return None
    before = os.environ.get("LD_LIBRARY_PATH")
    return {
        "VK_ICD_FILENAMES": str(driver),
        "LD_LIBRARY_PATH": f"{folder}:{before}" if before else str(folder),  # for libvulkan.so.1
    }
