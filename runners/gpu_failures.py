"""From what ONNX Runtime raises and prints where a GPU's provider does not come up, to one line with its mend. Pure."""

from __future__ import annotations

import re

from mobench.errors import SessionError

_LIBRARY = re.compile(r"Failed to load library (?P<of>\S+) with error: (?P<why>[^\n]+?)\s*$", re.MULTILINE)
_MISSING = re.compile(r"(?P<library>lib[\w.+-]+\.so[\w.]*): cannot open shared object file")
_CUDA = re.compile(r"CUDA failure (?P<code>\d+): (?P<why>.+?)\s*;")
_ADAPTER = re.compile(r"Failed to get a WebGPU (?:adapter|device)[.:]?\s*(?P<why>[^\n]*)")
_DRIVER = "install NVIDIA's driver, or start the container with its GPUs (--gpus all); see `nvidia-smi`"
_WHEELS = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
# The beginning of a missing library's name, and what brings it. The first that fits counts.
_BRINGS = (
    ("libcuda.so", _DRIVER),
    ("libnvidia", _DRIVER),
    ("libnvinfer", "pip install 'tensorrt-cu{cuda}=={version}.*'"),
    ("libnvonnxparser", "pip install 'tensorrt-cu{cuda}=={version}.*'"),
    ("libvulkan", "install the Vulkan loader (Debian: libvulkan1)"),
    ("lib", _WHEELS),
)
# cudaError_t of CUDA's runtime API.
_CODES = {
    "35": "update NVIDIA's driver (`nvidia-smi` says the newest CUDA it runs), or start the container with its GPUs",
    "100": _DRIVER,
    "101": "see `nvidia-smi` and CUDA_VISIBLE_DEVICES",
    "2": "something else fills the GPU's memory: see `nvidia-smi`",
    "803": "the driver's library and its kernel module differ: reboot",
}


def explain(what: str, error: str, printed: str, cuda: str = "") -> SessionError | None:
    """Return why a provider did not come up, or None where nothing here says so.

    Args:
        what: failed.
        error: the exception's text, or empty.
        printed: what the process printed since it began to load.
        cuda: the CUDA version that the build is for.
    """
    text = f"{error}\n{printed}"
    if found := _MISSING.search(text):
        library = found["library"]
        of = _LIBRARY.search(text)
        by = f", which {of['of'].rpartition('/')[2]} needs" if of and "libonnxruntime_providers" in of["of"] else ""
        return SessionError(what, f"{library} is not here{by}", bring(library, cuda))
    if found := _CUDA.search(text):
        mend = _CODES.get(found["code"], "see `nvidia-smi`")
        return SessionError(what, f"CUDA failure {found['code']}: {found['why']}", mend)
    if found := _ADAPTER.search(text):
        why = f"WebGPU finds no GPU ({found['why']})" if found["why"] else "WebGPU finds no GPU"
        return SessionError(what, why, "install the GPU's Vulkan driver; see `mobench doctor`")
    if found := _LIBRARY.search(text):
        return SessionError(what, f"{found['of'].rpartition('/')[2]}: {found['why']}", "see `mobench doctor`")
    return None


def bring(library: str, cuda: str = "") -> str:
    """Return what brings a missing library; ``cuda`` is the version that it is for.

    >>> bring("libnvinfer.so.10", "13.0")
    "pip install 'tensorrt-cu13==10.*'"
    """
    mend = next(mend for prefix, mend in _BRINGS if library.startswith(prefix))
    major = cuda.partition(".")[0] or "13"
    return mend.format(cuda=major, version=library.rpartition(".so.")[2].partition(".")[0] or "10")
