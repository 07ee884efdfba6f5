"""Where a result comes from: the machine, and the versions of the software."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from nextconcept import __version__

__all__ = ["machine", "versions"]


def machine() -> str:
    """Return number and name of the GPUs, or of the processor's cores."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{os.cpu_count()} cores of {model}"


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package, of torch and of Lightning."""
    # not from its metadata, which a copy of the package on PYTHONPATH has not
    own = {"python": platform.python_version(), "nextconcept": __version__}
    return own | {name: version(name) for name in ("torch", "lightning")}
