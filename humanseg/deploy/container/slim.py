"""At build time, `python slim.py SITE_PACKAGES` removes what the image does not need.

Sizes are of torch 2.13.0, OpenVINO 2026.4.1, pyarrow 25.0.1 and botocore 1.44.5. It removes every file that serving
on a CPU never opens; the test that builds and runs the image verifies this.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

LEFT_OUT = (
    # 195 MB: C++ headers, test programs and protoc, for building extensions (`import torch` wants torch_shm_manager)
    *("torch/include", "torch/test", "torch/share", "torch/bin/[!t]*", "torch/bin/test*"),
    # 105 MB: only torch.compile and torch.export need them; eager inference does not
    *("sympy", "isympy.py", "mpmath", "networkx"),
    # 62 MB: devices other than the CPU, and the GPU's kernel cache
    *("openvino/libs/*_gpu_plugin*", "openvino/libs/*_npu_plugin*", "openvino/libs/cache.json"),
    # 20 MB: the .mar contains the network in OpenVINO's own format, the other readers are for conversion
    *(f"openvino/libs/libopenvino_{name}_frontend*" for name in ("onnx", "tensorflow", "tensorflow_lite", "pytorch")),
    *(f"openvino/libs/libopenvino_{name}_frontend*" for name in ("paddle", "gguf", "jax")),
    "openvino/include",
    # 50 MB: pyarrow's headers, tests, sources and remote calls; the uploader only writes Parquet
    *("pyarrow/include", "pyarrow/tests", "pyarrow/src", "pyarrow/libarrow_flight*", "pyarrow/_flight*"),
    "pyarrow/libarrow_python*.25*.*",
    # 15 MB: numpy's own tests
    *("numpy/tests", "numpy/*/tests"),
    # 15 MB: pip is no longer needed
    *("pip", "pip-*"),
)
# The services that the uploader and process 1 use, out of botocore's 400 descriptions (30 MB).
SERVICES = ("s3", "sts", "sso", "sso-oidc", "autoscaling")


def slim(packages: Path) -> None:
    """Remove what is listed."""
    for pattern in LEFT_OUT:
        for path in packages.glob(pattern):
            remove(path)
    for path in (packages / "botocore" / "data").iterdir():
        if path.is_dir() and path.name not in SERVICES:
            remove(path)


def remove(path: Path) -> None:
    """A file or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    slim(Path(sys.argv[1]))
