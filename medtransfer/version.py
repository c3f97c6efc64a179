"""The version, read by the build and by `medtransfer info` without importing anything else."""

__version__ = "0.1.0"
