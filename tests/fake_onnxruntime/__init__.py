"""A folder to be found as `onnxruntime`: ONNX Runtime's GPU builds as they behave and fail, without a GPU.

`write` lays out the module and its packages' metadata; what it does stands in a plan, a JSON file beside it:

- `providers`: what the build has; `package`, `version`, `cuda`: what it says that it is;
- `prints`: what appears on stderr while a session is made, as recorded from the real one; such a provider is left out;
- `raises`: what making a session raises;
- `nodes`: provider, operator and name of each node where everything asked for is there;
- `run_s`: how long the GPU computes behind a run that has returned; `fails`: what a run raises.

The one model maps an image [N, 3, 8, 8] to [N, 3] channel means, times 2 where TF32 is on, so that it can be told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MODULE = Path(__file__).with_name("module.py")
CPU, CUDA, TENSORRT, WEBGPU = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt", "WebGpu"))
GPU_BUILD = {
    "package": "onnxruntime-gpu", "version": "1.31.1", "cuda": "13.0", "providers": [TENSORRT, CUDA, CPU],
}  # fmt: skip
NODES = [[CUDA, "GlobalAveragePool", "pool"], [CUDA, "Flatten", "flat"]]


def write(folder: Path, plan: Mapping[str, Any], packages: Mapping[str, str] | None = None) -> Path:
    """Lay out the module in a folder for PYTHONPATH; ``packages`` are those whose metadata lies there, by version."""
    plan = {**GPU_BUILD, "nodes": NODES, **plan}
    home = folder / "onnxruntime"
    (home / "capi").mkdir(parents=True)
    (home / "__init__.py").write_text(MODULE.read_text())
    (home / "plan.json").write_text(json.dumps(plan))
    said = {"package_name": plan["package"], "__version__": plan["version"], "cuda_version": plan["cuda"]}
    info = "".join(f"{name} = '{value}'\n" for name, value in said.items() if value)
    (home / "capi" / "build_and_package_info.py").write_text(info)
    for name, version in (packages or {plan["package"]: plan["version"]}).items():
        metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder
