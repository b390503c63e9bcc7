"""Which build of ONNX Runtime is here, and the lines that bring another: three packages share one Python module."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from mobench.errors import BadInputError, MissingExtraError

CPU, GPU, WEBGPU = "onnxruntime", "onnxruntime-gpu", "onnxruntime-webgpu"
BUILDS = (GPU, WEBGPU, CPU)
EXTRAS = {GPU: "gpu", WEBGPU: "webgpu"}
# By provider, as --provider has it: ONNX Runtime's own name, and the package that has it.
PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", GPU),
    "tensorrt": ("TensorrtExecutionProvider", GPU),
    "webgpu": ("WebGpuExecutionProvider", WEBGPU),
}
# What pip is asked for: CUDA and cuDNN come with it, as wheels of NVIDIA's.
_INSTALL = {GPU: "'onnxruntime-gpu[cuda,cudnn]' nvidia-ml-py", WEBGPU: WEBGPU}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The onnxruntime that is imported: whose build its files are, and the packages that were installed over it.

    ``packages`` have their version; several lie over one another, and the last one's files count. ``cuda`` is the
    version that the build is for. All is empty where there is no onnxruntime.
    """

    build: str = ""
    version: str = ""
    cuda: str = ""
    folder: Path | None = None
    packages: tuple[tuple[str, str], ...] = ()

    @property
    def clash(self) -> str:
        """Say in words that several packages lie over one another; empty where they do not."""
        if len(self.packages) < 2:
            return ""
        listed = " and ".join(f"{name} {version}" for name, version in self.packages)
        return f"{listed} lie over one another (they share the module onnxruntime), and the files are {self.build}'s"


def installed() -> Installed:
    """Look at what a new process would import as onnxruntime; nothing is imported."""
    from importlib import metadata  # slow to import, and most sessions never need it

    spec = PathFinder.find_spec("onnxruntime")  # not importlib.util's: that tells what this process has imported
    if spec is None or spec.origin is None:
        return Installed()
    folder = Path(spec.origin).parent
    packages = []
    for name in BUILDS:
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        # One of another folder, further back on the path, is not in the way.
        if Path(str(found.locate_file("onnxruntime"))).resolve() == folder.resolve():
            packages.append((name, found.version))
    said = _build_info(folder)
    return Installed(
        build=said.get("package_name", ""),
        version=said.get("__version__", ""),
        cuda=said.get("cuda_version", ""),
        folder=folder,
        packages=tuple(packages),
    )


def _build_info(folder: Path) -> dict[str, str]:
    """Return what a build says of itself in `capi/build_and_package_info.py`: names and strings."""
    try:
        text = (folder / "capi" / "build_and_package_info.py").read_text()
    except OSError:
        return {}
    return dict(re.findall(r"^(\w+) = '([^']*)'", text, re.MULTILINE))


def default_provider() -> str:
    """Return the provider of the build that is here; cuda, which then says what it lacks, where it has none."""
    return "webgpu" if installed().build == WEBGPU else "cuda"


def install(package: str, found: Installed) -> str:
    """Return the lines that bring a package in the place of those that are there."""
    there = " ".join(name for name, _ in found.packages)
    return " && ".join(filter(None, (f"pip uninstall -y {there}" if there else "", f"pip install {_INSTALL[package]}")))


def require(provider: str, found: Installed | None = None) -> None:
    """Make sure that the build that is here has a provider.

    Raises:
        MissingExtraError: there is no onnxruntime at all.
        BadInputError: it is another build, or several lie over one another and the wrong one is on top.
    """
    found = found or installed()
    name, package = PROVIDERS[provider]
    if not found.folder:
        raise MissingExtraError(package, EXTRAS[package])
    if found.build == package or found.build not in BUILDS:  # one of somebody's own: the session looks
        return
    other = "" if package == WEBGPU else "; another GPU than NVIDIA's: --provider webgpu"
    why = found.clash or f"{found.build or 'the onnxruntime'} {found.version} is installed, which has no {name}"
    raise BadInputError(f"--provider {provider} needs {package}", why, f"{install(package, found)}{other}")
