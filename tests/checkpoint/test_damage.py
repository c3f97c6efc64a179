"""Files that are missing, damaged or something else, each told by its own reason."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from medtransfer.checkpoint.reader import read_weights


def test_c01_missing_file_suggests_near_names(torch_file: Path, refused) -> None:
    refused(torch_file.with_name("nett.pth"), "no such file", "net.pth")
    refused(torch_file.parent / "absent" / "net.pth", "no such file")
    refused(torch_file / "net.pth", "no such file")


def test_c03_empty_file(tmp_path: Path, refused) -> None:
    (tmp_path / "a.pth").touch()
    refused(tmp_path / "a.pth", "the file is empty")


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_c04_cut_file_is_truncated_or_damaged(torch_file: Path, refused, keep: float) -> None:
    data = torch_file.read_bytes()
    torch_file.write_bytes(data[: int(len(data) * keep)])
    refused(torch_file, "truncated or damaged")


@pytest.mark.parametrize("cut", [1, 10, 22, 60])
def test_c05_last_bytes_cut(torch_file: Path, refused, cut: int) -> None:
    torch_file.write_bytes(torch_file.read_bytes()[:-cut])
    refused(torch_file, "truncated or damaged")


@pytest.mark.parametrize("seed", range(5))
def test_c06_random_bytes_are_no_checkpoint(tmp_path: Path, refused, seed: int) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(np.random.default_rng(seed).bytes(5000))
    refused(path, "not a checkpoint")


def test_c07_text_is_no_checkpoint(tmp_path: Path, refused) -> None:
    path = tmp_path / "a.pth"
    path.write_text("epoch,loss\n1,0.5\n")
    refused(path, "not a checkpoint: text")


@pytest.mark.parametrize("text", ["<!DOCTYPE html>\n<html>", "\n <html lang=en>", "<?xml version='1.0'?><Error/>"])
def test_c08_web_page(tmp_path: Path, refused, text: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text(text)
    refused(path, "looks like a web page", "download")


def test_c09_git_lfs_pointer(tmp_path: Path, refused) -> None:
    path = tmp_path / "a.pth"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    refused(path, "git-lfs pointer", "git lfs pull")


def test_c10_plain_zip(tmp_path: Path, refused) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("holiday/photo.txt", "sun")
    refused(tmp_path / "a.pth", "not a checkpoint", "zip archive")


def _data_offset(path: Path, name: str) -> int:
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(name)
    start = member.header_offset
    head = path.read_bytes()[start : start + 30]
    return start + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")


@pytest.mark.parametrize("name", ["data/0", "data/3", "data.pkl"])
def test_c11_bit_flip_is_found_by_the_checksum(torch_file: Path, refused, name: str) -> None:
    data = bytearray(torch_file.read_bytes())
    data[_data_offset(torch_file, f"net/{name}") + 5] ^= 4
    torch_file.write_bytes(data)
    refused(torch_file, f"checksum of {name} differs")


def test_c11_archive_written_without_checksums_loads_with_a_note(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(2)}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert "without checksums" in read_weights(tmp_path / "a.pth").notes[0]


def test_archive_whose_entries_lie_within_each_other_is_refused(torch_file: Path, refused) -> None:
    with zipfile.ZipFile(torch_file, "a") as archive:
        outer = archive.getinfo("net/data/0")
        inner = zipfile.ZipInfo("net/data/9")
        archive.writestr(inner, torch_file.read_bytes()[: outer.file_size])
        archive.filelist += [copy.copy(inner) for _ in range(20)]
        for index, member in enumerate(archive.filelist[-20:]):
            member.filename = member.orig_filename = f"net/data/{10 + index}"
    refused(torch_file, "entries of the archive overlap")


def test_archive_whose_two_lists_differ_is_refused(torch_file: Path, refused) -> None:
    data = bytearray(torch_file.read_bytes())
    first = data.index(b"net/data/0")
    data[first : first + 10] = b"net/data/7"
    torch_file.write_bytes(data)
    refused(torch_file, "is not where the archive says")
