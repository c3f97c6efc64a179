"""Rows C01-C46 at the command line: one line on stderr, exit code 4, nothing on stdout, no traceback."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from medtransfer.cli.main import run
from medtransfer.cli.messages import one_line


def _good(folder: Path) -> Path:
    torch.save({"state_dict": {"fc.weight": torch.randn(40, 40)}}, folder / "net.pth")
    return folder / "net.pth"


def _cut(folder: Path, keep: Callable[[int], int]) -> Path:
    path = _good(folder)
    data = path.read_bytes()
    path.write_bytes(data[: keep(len(data))])
    return path


def _flipped(folder: Path) -> Path:
    path = _good(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    return path


def _bytes(data: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / "net.pth").write_bytes(data)
        return folder / "net.pth"

    return build


def _saved(tree: object) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        torch.save(tree, folder / "net.pth")
        return folder / "net.pth"

    return build


def _zipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "net.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    return folder / "net.zip"


def _script(folder: Path) -> Path:
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.ones(1)), str(folder / "net.pt"))
    return folder / "net.pt"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "net.pth")
    return folder / "net.pth"


def _safetensors_cut(folder: Path) -> Path:
    save_file({"w": torch.ones(2)}, folder / "net.safetensors")
    data = (folder / "net.safetensors").read_bytes()
    (folder / "net.safetensors").write_bytes(data[:-1])
    return folder / "net.safetensors"


def _near(folder: Path) -> Path:
    _good(folder)
    return folder / "nett.pth"


ROWS: dict[str, tuple[Callable[[Path], Path | str], str]] = {
    "c01": (_near, "no such file. Did you mean net.pth?"),
    "c02": (lambda folder: folder, "is a folder, not a model folder: model.json is missing"),
    "c03": (_bytes(b""), "the file is empty"),
    "c04": (lambda folder: _cut(folder, lambda size: size // 2), "truncated or damaged"),
    "c05": (lambda folder: _cut(folder, lambda size: size - 10), "truncated or damaged"),
    "c06": (_bytes(bytes(range(255, 0, -1)) * 9), "not a checkpoint"),
    "c07": (_bytes(b"epoch 1\n" * 99), "not a checkpoint: text"),
    "c08": (_bytes(b"<!DOCTYPE html><title>404</title>"), "looks like a web page: the download failed?"),
    "c09": (_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "is a git-lfs pointer"),
    "c10": (_zipped, "not a checkpoint: a zip archive without data.pkl"),
    "c11": (_flipped, "the checksum of data/0 differs"),
    "c13": (_saved(torch.nn.Linear(2, 2)), "contains code objects"),
    "c14": (_script, "TorchScript, which holds code: export weights first"),
    "c22": (_saved({"w": torch.tensor([1.0, float("inf")])}), "NaN or infinite values in w"),
    "c23 list": (_saved([1, 2]), "no weights found: the file holds a list"),
    "c23 empty": (_saved({}), "no weights found; the file holds an empty dict"),
    "c23 number": (_saved({"state_dict": 5}), "no weights found; keys are state_dict"),
    "c32": (_saved({"w": torch.zeros(2, device="meta")}), "without data"),
    "c34": (_safetensors_cut, "truncated or damaged safetensors file"),
    "c45 pipe": (_pipe, "not a regular file"),
    "c46 url": (lambda folder: "https://example.org/a.pth", "is a URL, and local files only are read"),
    "c46 name": (lambda folder: "torchvision://resnet50", "is a URL, and local files only are read"),
    "a zero byte in the name": (lambda folder: f"{folder}/a\0b", "no such file"),
    "control characters in the name": (lambda folder: folder / "\x1b[31m\n.pth", "no such file"),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("json", [False, True], ids=["text", "json"])
def test_c01_to_c46_inspect_says_one_line_and_exits_with_4(tmp_path: Path, capfd, row: str, json: bool) -> None:
    build, reason = ROWS[row]
    path = build(tmp_path)
    assert run(["inspect", str(path), *(["--json"] if json else [])]) == 4
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"medtransfer: error: {one_line(str(path)).replace('://', ':/')}: ")
    assert reason in err
    assert err.rstrip().endswith((".", "?", ")")) or row.startswith(("c10", "c14", "c23", "c32", "c45"))


def test_c45_unreadable_for_a_reader_without_rights(tmp_path: Path) -> None:
    path = _good(tmp_path)
    path.chmod(0)
    tmp_path.chmod(0o755)
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            sys.stderr = os.fdopen(send, "w")
            code = run(["inspect", str(path)])
        finally:
            os._exit(code)
    os.close(send)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with os.fdopen(receive) as stream:
        said = stream.read()
    assert status == 4
    assert said == f"medtransfer: error: {path}: permission denied. Make it readable (chmod u+r).\n"


def test_debug_shows_where_a_refusal_comes_from(tmp_path: Path, capfd) -> None:
    assert run(["inspect", str(_cut(tmp_path, lambda size: size // 2)), "--debug"]) == 4
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize("core", ["numpy._core", "numpy.core"])
def test_c15_to_c18_checkpoints_of_mmengine_are_read_and_nothing_runs(tmp_path: Path, capfd, core: str) -> None:
    from mmengine.logging import HistoryBuffer

    from tests.attacks.payloads import rewrite

    HistoryBuffer([0.0], [1])  # the first one fills the table of the class
    before = dict(HistoryBuffer._statistics_methods)
    flag = tmp_path / "flag"
    history = HistoryBuffer([1.5, 2.5], [1, 2])
    history._statistics_methods = {"mean": HistoryBuffer.max}
    meta = {"epoch": 3, "cfg": f"import os\nos.system('touch {flag}')", "config": "__import__('os').system('x')"}
    tree = {"meta": meta, "state_dict": {"backbone.w": torch.ones(2)}, "message_hub": {"log_scalars": {"a": history}}}
    path = tmp_path / "epoch_3.pth"
    torch.save(tree, path)
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("epoch_3/data.pkl").replace(b"numpy._core", core.encode())
    rewrite(path, path.read_bytes(), replace={"epoch_3/data.pkl": pickled})
    assert run(["inspect", str(path)]) == 0
    assert "state_dict" in capfd.readouterr().out
    assert not flag.exists()
    assert HistoryBuffer._statistics_methods == before
