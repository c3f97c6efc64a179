"""What starts the processes of a run, and by which variables it tells them of each other."""

from __future__ import annotations

import os
import re
import socket

from ..errors import UsageError

#: launcher -> the variables with the number of this process, of all processes, and the number on this machine
VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
LAUNCHERS = ("none", *VARIABLES)


def set_environment(launcher: str) -> None:
    """Set torch's variables from those of another launcher, with or without CUDA.

    Raises:
        UsageError: they are missing.
    """
    missing = [name for name in VARIABLES[launcher][:2] if name not in os.environ]
    if missing:
        starter = {"pytorch": "torchrun", "slurm": "srun", "mpi": "mpirun"}[launcher]
        raise UsageError(f"launcher {launcher!r} needs {' and '.join(missing)}", hint=f"Start with {starter}")
    rank, size, local = (os.environ.get(name, "0") for name in VARIABLES[launcher])
    os.environ.update(RANK=rank, WORLD_SIZE=size, LOCAL_RANK=local)
    if launcher == "slurm":
        # 29500 is torch's; jobs that share a machine must not meet
        os.environ.setdefault("MASTER_PORT", str(29500 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10000))
        os.environ.setdefault("MASTER_ADDR", first_host(os.environ.get("SLURM_NODELIST", "")))
    os.environ.setdefault("MASTER_ADDR", socket.gethostname() if size == "1" else "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")


def first_host(nodes: str) -> str:
    """The first machine of SLURM's short list.

    >>> first_host("node[08-11,15],gpu1"), first_host("gpu1,gpu2"), first_host("rack[2-3]n[01-04]-x")
    ('node08', 'gpu1', 'rack2n01-x')
    """
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", nodes).split(",")[0] or "127.0.0.1"
