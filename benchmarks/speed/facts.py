"""Which machine, which libraries, which code: what a table of ratios is worth nothing without."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from .measure import ROOT

#: what of a processor's abilities decides how fast a convolution is
FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_tile", "amx_bf16", "asimd", "bf16")
PACKAGES = ("torch", "monai", "mmengine", "nnunetv2", "dynamic-network-architectures", "numpy", "safetensors")


def machine_facts(device: str = "cpu") -> dict[str, Any]:
    """Plain values by name."""
    gpu = device != "cpu" and torch.cuda.is_available()
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "flags": cpu_flags(),
        "isa_limit": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "memory_gib": _memory_gib(),
        "gpu": torch.cuda.get_device_name(device) if gpu else None,
        "cuda": torch.version.cuda if gpu else None,
        "load": [round(value, 1) for value in os.getloadavg()],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": _commit(),
        "python": platform.python_version(),
        "system": platform.system(),
        "onednn": onednn_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def cpu_name() -> str:
    """The processor's name, with what tells apart those that share one.

    ``Intel(R) Xeon(R) Processor`` is what many virtual machines say: family and model then name the generation.
    """
    found = {key: _cpuinfo(key) for key in ("model name", "cpu family", "model")}
    name = found["model name"] or platform.processor() or platform.machine()
    numbers = [found[key] for key in ("cpu family", "model") if found[key]]
    return f"{name} (family {', model '.join(numbers)})" if numbers else name


def cpu_flags() -> list[str]:
    """Of ``FLAGS`` those that the processor has."""
    words = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [flag for flag in FLAGS if flag in words]


def file_name(facts: dict[str, Any]) -> str:
    """The file of results: of the GPU if one was measured, with the limit that was set for oneDNN.

    >>> file_name({"cpu": "Intel(R) Xeon(R) Processor", "gpu": None, "isa_limit": "AVX512_CORE", "threads": 2})
    'intel-r-xeon-r-processor-2-threads-avx512-core'
    """
    parts = [facts["gpu"] or f"{facts['cpu']} {facts['threads']} threads", facts["isa_limit"] or ""]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


def onednn_version() -> str | None:
    """Of the library that torch was built with."""
    found = re.search(r"MKL-DNN v([\d.]+)", torch.__config__.show())
    return found[1] if found else None


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == key), "")


def _memory_gib() -> float | None:
    if sys.platform == "win32":
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
