"""Files that are no scan, or lie about what they hold."""

from __future__ import annotations

import os
import re
import resource
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtransfer.errors import ResourceError, VolumeError
from medtransfer.volumes.read import read_volume


def refusal(path: Any, kind: type[Exception] = VolumeError, **arguments: Any) -> str:
    with pytest.raises(kind) as caught:
        read_volume(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message.replace(str(path), "")
    return message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"these are not the voxels you are looking for", "first bytes"),
        (b"NRRD0005\n", "NRRD"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"<html>404</html>", "web page"),
        (np.random.default_rng(0).bytes(5000), "first bytes"),
    ],
)
def test_i01_what_is_no_nifti_is_called_so(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    message = refusal(path)
    assert "not a NIfTI file" in message
    assert reason in message
    assert "install" not in message


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_i01_a_header_without_voxels(craft: Any, name: str) -> None:
    path = craft(name, packed=False, edit=lambda content: bytes(content[:352]))
    message = refusal(path)
    assert "not a NIfTI file" in message
    assert "352 of 592 bytes" in message


def test_i01_a_wrong_magic(craft: Any) -> None:
    path = craft(edit=lambda content: bytes(content[:344]) + b"bad\0" + bytes(content[348:]))
    assert "not a NIfTI file: its magic is b'bad\\x00'" in refusal(path)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_i02_a_cut_gzip_says_how_much_is_there(craft: Any, keep: float) -> None:
    noise = np.random.default_rng(1).integers(0, 3000, (20, 20, 20)).astype(np.int16)
    path = craft("a.nii.gz", noise, edit=lambda content: bytes(content[: int(len(content) * keep)]))
    there = len(zlib.decompressobj(wbits=31).decompress(path.read_bytes()))
    said = re.search(r"ends early: (\d+) of 16352 bytes", refusal(path))
    assert said
    assert there - 8 <= int(said[1]) <= there  # isal leaves the last bits to the byte that never comes


def test_i02_a_gzip_without_its_last_bytes_is_cut_too(craft: Any) -> None:
    assert "ends early" in refusal(craft("a.nii.gz", edit=lambda content: bytes(content[:-3])))


def test_i02_a_cut_plain_file(craft: Any) -> None:
    assert "ends early: 500 of 592 bytes" in refusal(craft(edit=lambda content: bytes(content[:500])))


def test_i03_a_wrong_gzip_checksum_is_seen(craft: Any) -> None:
    def flip(content: bytearray) -> bytes:
        content[-8] ^= 1
        return bytes(content)

    assert "gzip checksum differs" in refusal(craft("a.nii.gz", edit=flip))


def test_i03_damage_inside_the_gzip(craft: Any) -> None:
    def flip(content: bytearray) -> bytes:
        content[len(content) // 2] ^= 0x55
        return bytes(content)

    noise = np.random.default_rng(1).integers(0, 3000, (20, 20, 20)).astype(np.int16)
    assert "damaged" in refusal(craft("a.nii.gz", noise, edit=flip))


@pytest.mark.parametrize(("name", "packed"), [("a.nii.gz", False), ("a.nii", True)])
def test_i04_compression_is_known_by_content(craft: Any, name: str, packed: bool) -> None:
    scan = read_volume(craft(name, packed=packed))
    assert scan.array.max() == 119
    assert any("gzip although the name" in text for text in scan.warnings)


def test_i05_a_gzip_bomb_is_refused_by_its_ratio_without_being_unpacked(craft: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = craft("bomb.nii.gz", np.zeros((4, 4, 4), np.uint8), dim=(3, 1000, 1000, 1000))
    message = refusal(path)
    assert "953.7 MiB" in message
    assert "more than gzip can pack" in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_i05_more_bytes_than_the_header_claims(craft: Any) -> None:
    message = refusal(craft("bomb.nii.gz", np.zeros((300, 300, 300), np.uint8), dim=(3, 4, 4, 4)))
    assert "bytes more than its header claims" in message


@pytest.mark.parametrize("name", ["huge.nii", "huge.nii.gz"])
def test_i06_a_size_beyond_memory_is_a_resource_error_with_both_numbers(craft: Any, name: str) -> None:
    path = craft(name, np.zeros((2, 2, 2), np.float32), dim=(3, 32767, 32767, 32767))
    message = refusal(path, ResourceError)
    assert "32767x32767x32767" in message
    assert "256.0 TiB" in message
    assert "available" in message


@pytest.mark.parametrize(
    ("dim", "reason"),
    [
        ((0, 6, 5, 4), "0 dimensions"),
        ((9, 6, 5, 4), "9 dimensions"),
        ((-3, 6, 5, 4), "-3 dimensions"),
        ((3, 0, 5, 4), "an axis of size 0"),
        ((3, 6, -5, 4), "an axis of size -5"),
        ((3, -6, -5, 4), "an axis of size -6"),
    ],
)
def test_i07_impossible_dimensions(craft: Any, dim: tuple[int, ...], reason: str) -> None:
    assert reason in refusal(craft(dim=dim))


@pytest.mark.parametrize("offset", [np.nan, np.inf, -5, 100])
def test_i08_impossible_offsets(craft: Any, offset: float) -> None:
    assert "puts the voxels at byte" in refusal(craft(vox_offset=offset))


def test_i08_an_offset_beyond_the_file(craft: Any) -> None:
    assert "ends early" in refusal(craft(vox_offset=1e9))
    assert "more than gzip can pack" in refusal(craft("a.nii.gz", vox_offset=1e9))


def test_i08_an_unknown_datatype(craft: Any) -> None:
    assert "unknown datatype 9999" in refusal(craft(datatype=9999))


@pytest.mark.parametrize(
    ("code", "name"),
    [(128, "RGB"), (2304, "RGBA"), (32, "complex64"), (1792, "complex128"), (1536, "float128"), (1, "bool")],
)
def test_i10_types_that_are_no_plain_numbers_are_named(craft: Any, code: int, name: str) -> None:
    assert name in refusal(craft(datatype=code))


def test_i11_a_picture_is_not_a_volume(craft: Any) -> None:
    message = refusal(craft(dim=(2, 6, 5, 4)))
    assert "is 2-D" in message
    assert "three axes" in message


def test_i28_a_lone_half_of_a_pair_names_the_other(craft: Any) -> None:
    assert "no scan.hdr beside it" in refusal(craft("scan.img"))
    assert "no other.img beside it" in refusal(craft("other.hdr", magic=b"ni1", vox_offset=0))


def test_i36_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
    assert "not a regular file" in refusal(tmp_path / "pipe.nii")
    assert "not a regular file" in refusal(Path("/dev/zero"))
    assert "cannot be opened" in refusal(tmp_path / "loop.nii")
    assert "is a folder" in refusal(tmp_path)


def test_a_missing_file_suggests_a_near_name(craft: Any) -> None:
    path = craft("patient_01.nii.gz")
    assert "Did you mean patient_01.nii.gz?" in refusal(path.with_name("patient_1.nii.gz"))


def test_what_is_no_path_is_refused_as_such() -> None:
    with pytest.raises(VolumeError, match="a path or a nibabel image, got int"):
        read_volume(5)  # type: ignore[arg-type]
    with pytest.raises(VolumeError, match="empty list"):
        read_volume([])
