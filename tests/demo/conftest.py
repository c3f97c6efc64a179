"""A small brain: shells of tissue around fluid, tall enough to have a labelled and a held-out part."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from medtransfer.demo.template import Template


@pytest.fixture(scope="session")
def small_template() -> Template:
    """(36, 40, 126) uint8 at 1 mm, on an affine with an offset."""
    shape = (36, 40, 126)
    axes = [np.linspace(-1, 1, size) for size in shape]
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    labels = np.digitize(radius, [0.35, 0.6, 0.9])
    labels = np.array([1, 3, 2, 0])[labels].astype(np.uint8)
    noise = np.random.default_rng(0).integers(-8, 8, shape)
    image = np.where(labels > 0, np.array([0, 100, 165, 215])[labels] + noise, 0).astype(np.uint8)
    affine = np.eye(4)
    affine[:3, 3] = (-18, -20, -40)
    return Template(image, labels, affine)


@pytest.fixture
def python_code() -> Callable[[str], bool]:
    """Whether Python code ends with 0 in a new process."""
    return lambda code: subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
