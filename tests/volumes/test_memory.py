"""What does not fit is refused with numbers before it is taken; packed streams of every kind."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtransfer.errors import ResourceError, VolumeError
from medtransfer.volumes.read import read_volume
from medtransfer.volumes.stream import ByteSource, open_scan

UNDER_2_GIB = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from medtransfer.errors import ResourceError
from medtransfer.volumes.read import read_volume
try:
    print(read_volume(sys.argv[1]).array.shape)
except ResourceError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def read_under_2_gib(path: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", UNDER_2_GIB, str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("slices", [2000, 100])
def test_i25_a_scan_beyond_2_gib_of_memory_ends_with_an_estimate(craft: Any, slices: int) -> None:
    path = craft(array=np.zeros((2, 2, 2), np.int16), dim=(3, 512, 512, slices))
    with path.open("r+b") as file:
        file.truncate(352 + 2 * 512 * 512 * slices)  # sparse: takes no disk
    done = read_under_2_gib(path)
    if slices == 100:
        assert (done.returncode, done.stdout) == (0, "(1, 512, 512, 100)\n"), done.stderr
        return
    assert done.returncode == 6
    assert "a volume of 512x512x2000 voxels (int16) needs about 2.9 GiB of memory" in done.stderr
    assert "are available" in done.stderr


def test_i25_the_estimate_stands_before_any_voxel_is_read(craft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtransfer.volumes.memory.available_memory", lambda: 700)
    monkeypatch.setattr(ByteSource, "skip", lambda *_: pytest.fail("the voxels were looked for"))
    with pytest.raises(ResourceError, match="needs about 720 bytes of memory, 700 bytes are available"):
        read_volume(craft())


def test_a_gzip_file_of_several_members_is_read_through(craft: Any) -> None:
    content = craft("plain.nii").read_bytes()
    parts = [gzip.compress(content[:200]), gzip.compress(content[200:400]), bytes(7), gzip.compress(content[400:])]
    path = craft("parts.nii.gz", packed=False, edit=lambda _: b"".join(parts) + bytes(512))
    scan = read_volume(path)
    np.testing.assert_array_equal(scan.array, read_volume(craft("plain.nii")).array)
    assert scan.warnings == []


def test_what_follows_a_gzip_stream_must_be_gzip(craft: Any) -> None:
    path = craft("a.nii.gz", edit=lambda content: bytes(content) + b"something else, and more of it")
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(path)


@pytest.mark.parametrize("size", [0, 1, 5000, 1_200_000])
@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, 1), lambda data: zlib.compress(data, 1)])
def test_streams_are_unpacked_whole_and_their_ends_are_seen(tmp_path: Path, size: int, pack: Any) -> None:
    content = np.random.default_rng(0).integers(0, 9, size, np.uint8).tobytes()
    path = tmp_path / "stream"
    path.write_bytes(b"head" + pack(content))
    with open_scan(path, 4, "deflate") as source:
        assert (source.read(size + 1), source.finish(0), source.packed) == (content, 0, True)
    path.write_bytes(b"head" + pack(content)[:-1])
    with open_scan(path, 4, "deflate") as source:
        source.read(size + 1)
        with pytest.raises(VolumeError, match="ends early"):
            source.finish(0)
