"""The GPUs that Vulkan finds, through its loader alone: which one WebGPU takes, and whether that is a program.

Run as a module it prints them as JSON: a driver that crashes, or hangs, takes no more than that process with it.
"""

from __future__ import annotations

import ctypes
import json
import struct
import subprocess
import sys
from ctypes import byref, c_char_p, c_uint32, c_void_p
from dataclasses import asdict, dataclass

LOADERS = ("libvulkan.so.1", "libvulkan.so")
IN_SOFTWARE = "in software"  # as mobench.stats reads it: no figure of such a GPU is a speed
# VkPhysicalDeviceType.
_KINDS = {0: "other", 1: "integrated", 2: "discrete", 3: "virtual", 4: "software"}
# WebGPU is asked for the fastest: Dawn takes a discrete GPU, then an integrated one, and a program last.
_ORDER = ("discrete", "integrated", "virtual", "other", "software")
_PROPERTIES_BYTES = 1024  # VkPhysicalDeviceProperties is 824 bytes
_TIMEOUT_S = 30.0


class VulkanError(Exception):
    """Vulkan does not answer; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU as Vulkan knows it; ``kind`` is discrete, integrated, virtual, software or other."""

    name: str
    kind: str

    def __str__(self) -> str:
        """Return its name, and that it is a program where it is."""
        return f"{self.name}, {IN_SOFTWARE}" if self.kind == "software" else self.name


class _Instance(ctypes.Structure):
    """VkInstanceCreateInfo without layers or extensions."""

    _fields_ = (
        ("kind", c_uint32),
        ("next", c_void_p),
        ("flags", c_uint32),
        ("application", c_void_p),
        ("n_layers", c_uint32),
        ("layers", c_void_p),
        ("n_extensions", c_uint32),
        ("extensions", c_void_p),
    )


def devices() -> tuple[Device, ...]:
    """Return the GPUs that Vulkan finds, in its order. They are loaded into this process.

    Raises:
        VulkanError: there is no loader, or no driver that works.
    """
    library = _loader()
    instance, info, count = c_void_p(), _Instance(kind=1), c_uint32()
    if status := library.vkCreateInstance(byref(info), None, byref(instance)):
        raise VulkanError(f"no Vulkan driver works (vkCreateInstance: {status})")
    try:
        library.vkEnumeratePhysicalDevices(instance, byref(count), None)
        handles = (c_void_p * count.value)()
        library.vkEnumeratePhysicalDevices(instance, byref(count), handles)
        return tuple(_describe(library, handle) for handle in handles[: count.value] if handle is not None)
    finally:
        library.vkDestroyInstance(instance, None)


def _loader() -> ctypes.CDLL:
    for name in LOADERS:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.vkCreateInstance.argtypes = (c_void_p, c_void_p, c_void_p)
        library.vkEnumeratePhysicalDevices.argtypes = (c_void_p, c_void_p, c_void_p)
        library.vkGetPhysicalDeviceProperties.argtypes = (c_void_p, c_char_p)
        library.vkDestroyInstance.argtypes = (c_void_p, c_void_p)
        return library
    raise VulkanError(f"there is no {LOADERS[0]}")


def _describe(library: ctypes.CDLL, handle: int) -> Device:
    room = ctypes.create_string_buffer(_PROPERTIES_BYTES)
    library.vkGetPhysicalDeviceProperties(handle, room)
    # apiVersion, driverVersion, vendorID, deviceID, deviceType, deviceName[256]
    kind = struct.unpack_from("<I", room.raw, 16)[0]
    name = room.raw[20:276].partition(b"\0")[0].decode(errors="replace")
    return Device(name=name, kind=_KINDS.get(kind, "other"))


def rank(device: Device) -> int:
    """Return where a GPU stands when WebGPU is asked for the fastest: the lowest is taken."""
    return _ORDER.index(device.kind)


def adapter() -> str:
    """Return in words what WebGPU runs on in this process: ONNX Runtime does not tell."""
    try:
        found = min(devices(), key=rank, default=None)
    except VulkanError as error:
        return f"an unknown GPU ({error})"
    return str(found) if found else "an unknown GPU (Vulkan finds none)"


def survey() -> tuple[Device, ...]:
    """Return the GPUs that Vulkan finds in a process of its own.

    Raises:
        VulkanError: none can be found, and why.
    """
    command = [sys.executable, "-P", "-m", "runners.gpu_vulkan"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise VulkanError(f"a driver did not answer in {_TIMEOUT_S:g} s") from error
    if done.returncode:
        raise VulkanError((done.stderr.strip().splitlines() or [f"a driver crashed ({done.returncode})"])[-1])
    return tuple(Device(**each) for each in json.loads(done.stdout))


if __name__ == "__main__":
    try:
        print(json.dumps([asdict(device) for device in devices()]))
    except VulkanError as problem:
        sys.exit(str(problem))
