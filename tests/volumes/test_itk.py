"""NRRD and MetaImage scans: equal to their NIfTI twins, and refused when their headers or bytes lie."""

from __future__ import annotations

import gzip
import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medtransfer.errors import MissingExtraError, ResourceError, VolumeError
from medtransfer.volumes.grid import corner_displacement
from medtransfer.volumes.read import case_name, read_labels, read_volume
from medtransfer.volumes.write import write_labels

ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
FLIPS = [
    np.eye(3)[list(order)] * np.array(signs)[:, None]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write an array (K, J, I) by SimpleITK."""

    def write(name: str, array: Any = None, packed: bool = False, vector: bool = False, direction: Any = None) -> Path:
        values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) if array is None else array
        image = sitk.GetImageFromArray(values, isVector=vector)
        if image.GetDimension() == 3:
            image.SetSpacing((1.5, 2.0, 0.75))
            image.SetOrigin((10.0, -20.0, 30.0))
            image.SetDirection((np.eye(3) if direction is None else direction).ravel().tolist())
        sitk.WriteImage(image, str(tmp_path / name), packed)
        return tmp_path / name

    return write


def refusal(path: Path, kind: type[Exception] = VolumeError) -> str:
    with pytest.raises(kind) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(path: Path, *changes: tuple[bytes, bytes]) -> Path:
    content = path.read_bytes()
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    path.write_bytes(content)
    return path


def same_as_twin(path: Path, twin: Path, channels: int | None = None) -> None:
    scan, other = read_volume(path, channels), read_volume(twin, channels)
    np.testing.assert_array_equal(scan.array, other.array)
    np.testing.assert_allclose(scan.affine, other.affine, atol=1e-5)
    assert corner_displacement(scan.grid, other.grid) < 1e-4
    assert (scan.warnings, other.warnings) == ([], [])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("packed", [False, True])
def test_i33_every_orientation_equals_its_nifti_twin(save: Save, ending: str, packed: bool) -> None:
    for direction in FLIPS[:: 1 if ending == ".nrrd" else 7]:
        path = save(f"scan{ending}", packed=packed, direction=direction)
        same_as_twin(path, save("twin.nii", direction=direction))
        expected = np.diag([-1.0, -1.0, 1.0]) @ direction * (1.5, 2.0, 0.75)
        np.testing.assert_array_equal(read_volume(path).affine[:3, :3], expected)


@pytest.mark.parametrize("ending", ENDINGS)
def test_i33_oblique_directions_equal_their_nifti_twin(save: Save, ending: str) -> None:
    for seed in range(6):
        direction = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
        same_as_twin(save(f"scan{ending}", direction=direction), save("twin.nii", direction=direction))


def test_i33_a_mask_of_such_a_scan_lies_on_its_grid(save: Save, tmp_path: Path) -> None:
    direction = np.linalg.qr(np.random.default_rng(9).normal(size=(3, 3)))[0]
    scan = read_volume(save("scan.nrrd", direction=direction))
    mask = write_labels(np.ones((6, 5, 4), int), scan, tmp_path / "mask.nii.gz")
    assert read_labels(mask, grid=scan.grid).warnings == []
    twin = read_labels(mask, grid=read_volume(save("twin.nii", direction=direction)).grid)
    assert twin.warnings == []


TYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", TYPES)
def test_i33_types_equal_what_itk_reads(save: Save, ending: str, kind: str) -> None:
    array = np.random.default_rng(0).uniform(0, 120, (4, 5, 6)).astype(kind)
    path = save(f"scan{ending}", array, packed=True)
    reference = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32)
    np.testing.assert_array_equal(read_volume(path).array[0].T, reference)


@pytest.mark.parametrize("ending", ENDINGS)
def test_i12_vector_images_and_series_follow_the_rule_of_nifti(save: Save, ending: str) -> None:
    array = np.random.default_rng(0).random((4, 5, 6, 3), np.float32)
    path = save(f"vector{ending}", array, vector=True)
    with pytest.raises(VolumeError, match="holds 3 volumes"):
        read_volume(path)
    np.testing.assert_array_equal(read_volume(path, channels=3).array, np.transpose(array, (3, 2, 1, 0)))
    series = save(f"series{ending}", np.moveaxis(array, 3, 0).copy())
    with pytest.raises(VolumeError, match="holds 3 volumes"):
        read_volume(series)
    np.testing.assert_array_equal(read_volume(series, volume=1).array[0], array[..., 1].T)


def test_channels_last_in_an_nrrd_file_are_channels_too(save: Save) -> None:
    array = np.random.default_rng(0).random((3, 4, 5, 6), np.float32)
    path = rewrite(
        save("scan.nrrd", array),
        (b"space dimension: 4\n", b"space: left-posterior-superior\n"),
        (b"kinds: domain domain domain domain", b"kinds: domain domain domain list"),
        (b"(1,0,0,0) (0,1,0,0) (0,0,1,0) (0,0,0,1)", b"(1,0,0) (0,1,0) (0,0,1) none"),
        (b"space origin: (0,0,0,0)", b"space origin: (0,0,0)"),
    )
    np.testing.assert_array_equal(read_volume(path, channels=3).array, np.transpose(array, (0, 3, 2, 1)))


def test_big_endian_and_skipped_bytes(save: Save) -> None:
    raw = np.arange(120, dtype=">i2")
    for ending, end, skip in ((".nhdr", b"endian: little", b"byte skip: "), (".mhd", b"MSB = False", b"HeaderSize = ")):
        path = rewrite(save(f"scan{ending}"), (end, end.replace(b"little", b"big").replace(b"False", b"True")))
        path.with_name("scan.raw").write_bytes(raw.tobytes())
        assert read_volume(path).array[0, 1, 0, 0] == 1
        path.with_name("scan.raw").write_bytes(b"junk" + raw.tobytes())
        start = path.read_bytes().index(b"\n") + 1
        for count in (b"4", b"-1"):
            content = path.read_bytes()
            rewritten = content[:start] + skip + count + b"\n" + content[start:]
            path.with_name(f"skip{ending}").write_bytes(rewritten)
            assert read_volume(path.with_name(f"skip{ending}")).array[0, 1, 0, 0] == 1


def test_i18_no_orientation_is_a_warning(save: Save) -> None:
    bare = rewrite(save("a.mha"), (b"TransformMatrix = 1 0 0 0 1 0 0 0 1\n", b""))
    assert "no orientation stored: axes taken as LPS" in read_volume(bare).warnings[0]
    assert read_volume(bare).grid.orientation == "LPS"
    path = rewrite(
        save("a.nrrd"),
        (b"space: left-posterior-superior\n", b""),
        (b"space directions: (1.5,0,0) (0,2,0) (0,0,0.75)", b"spacings: 1.5 2 0.75"),
        (b"space origin: (10,-20,30)\n", b""),
    )
    assert "no orientation stored" in read_volume(path).warnings[0]
    assert read_volume(path).grid.spacing == (1.5, 2.0, 0.75)


def test_i21_the_unit_of_an_nrrd_file_counts(save: Save) -> None:
    unit = (b"endian: little\n", b'endian: little\nspace units: "m" "m" "m"\n')
    spacing = (b"(1.5,0,0) (0,2,0) (0,0,0.75)", b"(.0015,0,0) (0,.002,0) (0,0,.00075)")
    path = rewrite(save("a.nrrd"), unit, spacing, (b"(10,-20,30)", b"(.01,-.02,.03)"))
    assert read_volume(path).grid.spacing == pytest.approx((1.5, 2, 0.75))
    assert "outside 0.005 to 500 mm" in refusal(
        rewrite(path, (b'"m" "m" "m"', b'"mm" "mm" "mm"'), (b"(.0015", b"(.0001"))
    )
    assert "space units are furlong" in refusal(rewrite(path, (b'"mm" "mm" "mm"', b'"furlong" "furlong" "furlong"')))


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_the_values_pass_the_same_gate(save: Save, ending: str) -> None:
    array = np.ones((4, 5, 6), np.float32)
    array[1, 2, 3] = np.nan
    path = save(f"nan{ending}", array, packed=True)
    assert "1 of 120 voxels are NaN or infinite, the first at (3, 2, 1)" in refusal(path)
    assert read_volume(path, nan=0).array[0, 3, 2, 1] == 0
    assert "is 2-D" in refusal(save(f"flat{ending}", np.ones((5, 6), np.uint8)))


def test_i22_sheared_axes_are_refused(save: Save) -> None:
    path = rewrite(save("scan.nrrd"), (b"(0,2,0)", b"(0.5,2,0)"))
    assert "sheared" in refusal(path)


@pytest.mark.parametrize(
    "directions", [b"(1,0,0) (0,1,0) (0,0,0)", b"(1,0,0) (1,0,0) (0,0,1)", b"(nan,0,0) (0,1,0) (0,0,1)"]
)
def test_i17_impossible_directions_are_refused(save: Save, directions: bytes) -> None:
    refusal(rewrite(save("scan.nrrd"), (b"(1.5,0,0) (0,2,0) (0,0,0.75)", directions)))


@pytest.mark.parametrize("spacing", [b"0 1 1", b"-1 1 1", b"nan 1 1", b"1e9 1 1"])
def test_i20_impossible_spacings_are_refused(save: Save, spacing: bytes) -> None:
    refusal(rewrite(save("scan.mha"), (b"ElementSpacing = 1.5 2 0.75", b"ElementSpacing = " + spacing)))


# --- bytes that lie


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("keep", [0.5, 0.98])
def test_i02_cut_voxels_say_how_much_is_there(save: Save, ending: str, packed: bool, keep: float) -> None:
    noise = np.random.default_rng(1).integers(0, 3000, (20, 20, 20)).astype(np.int16)
    path = save(f"scan{ending}", noise, packed=packed)
    holder = next((p for p in path.parent.iterdir() if "raw" in p.name), path)
    content = holder.read_bytes()
    holder.write_bytes(content[: int(len(content) * keep)])
    assert "ends early" in refusal(path)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("place", [-6, -4000])
def test_i03_damaged_packed_voxels_are_seen(save: Save, ending: str, place: int) -> None:
    noise = np.random.default_rng(1).integers(0, 3000, (20, 20, 20)).astype(np.int16)
    path = save(f"scan{ending}", noise, packed=True)
    holder = next((p for p in path.parent.iterdir() if "raw" in p.name), path)
    content = bytearray(holder.read_bytes())
    content[place] ^= 0x55
    holder.write_bytes(content)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_i05_i06_claimed_sizes_are_refused_before_they_are_taken(save: Save, ending: str) -> None:
    path = save(f"scan{ending}", packed=True)
    rewrite(path, (b"6 5 4", b"600 500 400"))
    assert "more than gzip can pack" in refusal(path)
    rewrite(path, (b"600 500 400", b"60000 50000 40000"))
    assert "60000x50000x40000 voxels" in refusal(path, ResourceError)
    rewrite(path, (b"60000 50000 40000", b"6 5 0"))
    assert "an axis of size 0" in refusal(path)
    rewrite(path, (b"6 5 0", b"6 5"))
    assert "claims 3 axes and the sizes [6, 5]" in refusal(path)


# --- headers that point elsewhere

ELSEWHERE = (
    b"/etc/passwd",
    b"../secret.raw",
    b"./../secret.raw",
    b"..\\secret.raw",
    b"sub/../../secret.raw",
    b"out.raw",
)


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_a_header_may_name_no_file_outside_its_folder(
    save: Save, tmp_path: Path, ending: str, name: bytes, monkeypatch: Any
) -> None:
    monkeypatch.setattr(sitk.ImageFileReader, "ReadImageInformation", lambda _: pytest.fail("ITK was asked"))
    (tmp_path / "inner" / "sub").mkdir(parents=True)
    (tmp_path / "secret.raw").write_bytes(bytes(240))
    (tmp_path / "inner" / "out.raw").symlink_to(tmp_path / "secret.raw")
    path = save(f"scan{ending}").rename(tmp_path / "inner" / f"scan{ending}")
    assert "outside its own folder" in refusal(rewrite(path, (b"scan.raw", name)))


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
@pytest.mark.parametrize("name", [b"LIST", b"slice%03d.raw 1 4 1", b"list 2"])
def test_voxels_in_several_files_are_refused(save: Save, ending: str, name: bytes) -> None:
    assert "spread over several files" in refusal(rewrite(save(f"scan{ending}"), (b"scan.raw", name)))


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_i28_a_lone_header_names_its_missing_voxels(save: Save, ending: str) -> None:
    path = save(f"scan{ending}")
    path.with_name("scan.raw").unlink()
    assert "its voxels, scan.raw: no such file" in refusal(path)
    os.mkfifo(path.with_name("scan.raw"))
    assert "its voxels, scan.raw: is not a regular file" in refusal(path)


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_a_header_and_voxels_that_are_links_are_read(save: Save, tmp_path: Path, ending: str) -> None:
    path = save(f"scan{ending}")
    (tmp_path / "links").mkdir()
    for name in (path.name, "scan.raw"):
        (tmp_path / "links" / name).symlink_to(tmp_path / name)
    assert read_volume(tmp_path / "links" / path.name).array.max() == 119


@pytest.mark.parametrize(
    ("ending", "old", "new", "words"),
    [
        (".mha", b"ObjectType = Image\n", b"<html>", "not a MetaImage file"),
        (".nrrd", b"NRRD000", b"NRD000", "not an NRRD file"),
        (".nrrd", b"encoding: raw", b"encoding: bzip2", "encoding is 'bzip2', only raw and gzip"),
        (".nrrd", b"encoding: raw\n", b"", "encoding is 'missing'"),
        (".nrrd", b"encoding: raw\n", b"encoding: raw\nline skip: 2\n", "line skip"),
        (".nrrd", b"encoding: raw\n", b"encoding: raw\nbyte skip: x\n", "'byteskip' must be a whole number"),
        (".nrrd", b"encoding: raw\n", b"encoding: raw\nbyte skip: -7\n", "cannot skip -7"),
        (".nrrd", b"encoding: raw\n", b"encoding: raw\nsizes: 1 1 1\n", "says 'sizes' twice"),
        (".nhdr", b"data file: ", b"datafile: /etc/passwd\ndata file: ", "says 'datafile' twice"),
        (".mhd", b"ElementDataFile", b"DimSize = 1 1 1\nElementDataFile", "says 'dimsize' twice"),
        (".nrrd", b"type: short", b"type: block", "of the type 'block'"),
        (".mha", b"MET_SHORT", b"MET_STRING", "of the type 'MET_STRING'"),
        (".nrrd", b"dimension: 3", b"dimension: three", "in whole numbers"),
        (".nrrd", b"kinds: domain", b"kinds: RGB-color", "RGB colour"),
        (".nrrd", b"kinds: domain domain", b"kinds: domain", "and the kinds"),
        (".nrrd", b"kinds: domain domain", b"kinds: list vector", "no axes of an image"),
        (".nrrd", b"kinds: domain", b"kinds: vector", "ITK"),
        (".nrrd", b"endian: little", b"endian little", "no field: 'endian little'"),
        (".mha", b"BinaryData = True", b"BinaryData = False", "are text"),
        (".mha", b"BinaryData = True", b"BinaryData = maybe", "True or False, got 'maybe'"),
        (".mha", b"NDims = 3", b"NDims = 3\nHeaderSize = 4", "cannot skip 4"),
        (".mha", b"ElementDataFile = LOCAL", b"ElementDataFil = LOCAL", "names no ElementDataFile"),
        (".mha", b"NDims = 3", b"NDims = 9", "claims 9 axes"),
        (".mha", b"Offset = 10 -20", b"Offset = 10 -x0", "'offset' does not fit 3 axes: '10 -x0 30'"),
        (".mha", b"TransformMatrix = 1 0", b"TransformMatrix = 1", "'transformmatrix' does not fit 3 axes"),
    ],
)
def test_headers_that_are_not_read_say_why(save: Save, ending: str, old: bytes, new: bytes, words: str) -> None:
    assert words in refusal(rewrite(save(f"scan{ending}"), (old, new)))


def test_i01_other_content_under_these_names(tmp_path: Path, craft: Any) -> None:
    for ending in ENDINGS:
        for content in (b"", b"text", craft("a.nii").read_bytes(), gzip.compress(b"x" * 999)):
            (tmp_path / f"scan{ending}").write_bytes(content)
            assert "does not begin with" in refusal(tmp_path / f"scan{ending}")
    (tmp_path / "endless.nrrd").write_bytes(b"NRRD0004\n" + b"# comment\n" * 200_000)
    assert "in whole numbers" in refusal(tmp_path / "endless.nrrd")


@pytest.mark.parametrize("ending", ENDINGS)
def test_e15_without_simpleitk_the_extra_is_named(save: Save, monkeypatch: Any, ending: str) -> None:
    path = save(f"scan{ending}")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(MissingExtraError, match=r"needs SimpleITK. Run pip install 'medtransfer\[itk\]'") as caught:
        read_volume(path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "name", ["a b.nrrd", "a'\"b.mha", "ß漢🩻.nhdr", "n" * 243 + ".nrrd", "-dash.mhd", "SCAN.NRRD", "A.MHA"]
)
def test_i35_awkward_names_are_read(save: Save, name: str) -> None:
    path = save(name.lower() if name.isascii() and name.isupper() else name)
    path = path.rename(path.with_name(name))
    assert read_volume(path).array.max() == 119
    assert case_name(path) == name.rsplit(".", 1)[0]


def test_i35_a_name_that_is_no_text_is_refused(save: Save, tmp_path: Path) -> None:
    path = save("scan.nrrd").rename(tmp_path / os.fsdecode(b"\xff.nrrd"))
    assert "is not UTF-8" in refusal(path)


def test_an_image_that_itk_reads_otherwise_is_refused(save: Save, monkeypatch: Any) -> None:
    path = save("scan.nrrd")
    monkeypatch.setattr(sitk.ImageFileReader, "GetSize", lambda _: (7, 5, 4))
    assert "ITK reads the sizes [7, 5, 4] with 1 channels, its header says [6, 5, 4]" in refusal(path)


@pytest.mark.parametrize("key", ["dim[0]", "0008|0060", "pixdim[1]"])
def test_i33_keys_that_itk_carries_over_from_other_formats_are_fields(save: Save, key: str) -> None:
    path = rewrite(save("a.mha"), (b"ElementSpacing", f"{key} = 3\nElementSpacing".encode()))
    np.testing.assert_array_equal(read_volume(path).array, read_volume(save("b.mha")).array)
