"""Torch files: each row of the battery that is about the file itself, and what may be read of foreign ones."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from medtransfer.checkpoint import tensor_checks, torch_archive
from medtransfer.checkpoint.reader import read_weights
from medtransfer.checkpoint.torch_file import load_torch_file
from medtransfer.errors import CheckpointError

CALLS = ("posix.system", "subprocess.Popen", "builtins.exec", "builtins.eval", "io.open")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_c12_calls_are_refused_listed_and_not_made(
    tmp_path: Path, attacks: ModuleType, refused, name: str, legacy: bool
) -> None:
    flag = tmp_path / "flag"
    path = attacks.in_state_dict(tmp_path / "a.pth", attacks.flag_calls(flag)[name], legacy=legacy)
    refused(path, "refused", name)
    refused(path, name, reader=load_torch_file)
    assert not flag.exists()


@pytest.mark.parametrize("name", CALLS)
def test_c12_bare_pickle_and_newer_protocol_are_not_opened(
    tmp_path: Path, attacks: ModuleType, refused, name: str
) -> None:
    flag = tmp_path / "flag"
    call = attacks.flag_calls(flag)[name]
    refused(attacks.bare_pickle(tmp_path / "a.pth", call), "bare Python pickle")
    refused(attacks.in_state_dict(tmp_path / "b.pth", call, protocol=4), "pickle protocol 4")
    assert not flag.exists()


def test_c12_names_of_python_2_are_told_as_what_they_are_now(tmp_path: Path, attacks: ModuleType, refused) -> None:
    pickled = b"\x80\x02c__builtin__\nreduce\ncurllib2\nurlopen\n\x86."
    refused(attacks.with_pickle(tmp_path / "a.pth", pickled), "functools.reduce, urllib.request.urlopen")


def test_payloads_do_work_on_an_unsafe_reader(tmp_path: Path, attacks: ModuleType) -> None:
    for name, call in attacks.flag_calls(tmp_path / "flag").items():
        torch.load(attacks.in_state_dict(tmp_path / "a.pth", call), weights_only=False)
        deadline = time.monotonic() + 5
        while not (tmp_path / "flag").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "flag").exists(), name
        (tmp_path / "flag").unlink()


def test_c12_environment_variable_cannot_make_the_load_unsafe(
    tmp_path: Path, attacks: ModuleType, refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    call = attacks.flag_calls(tmp_path / "flag")["io.open"]
    refused(attacks.in_state_dict(tmp_path / "a.pth", call), "io.open")
    assert not (tmp_path / "flag").exists()


def test_c12_what_others_allowed_in_the_process_is_not_used(tmp_path: Path, attacks: ModuleType, refused) -> None:
    call = attacks.flag_calls(tmp_path / "flag")["subprocess.Popen"]
    # several under one name, since torch takes any of those
    unsafe = [(lambda *names, number=number: f"called {number}", "builtins.getattr") for number in range(50)]
    with torch.serialization.safe_globals([subprocess.Popen, *unsafe]):
        refused(attacks.in_state_dict(tmp_path / "a.pth", call), "subprocess.Popen")
        path = tmp_path / "b.pth"
        torch.save({"w": torch.ones(2), "meta": attacks.Call(getattr, "word", "upper")}, path)
        assert load_torch_file(path)["meta"] is None
        assert subprocess.Popen in torch.serialization.get_safe_globals()
    assert not (tmp_path / "flag").exists()


def test_c13_whole_network_names_the_way_out(tmp_path: Path, refused) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3)), tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "contains code objects", "re-save state_dict", "Sequential")


def test_c14_torchscript(tmp_path: Path, refused) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.ones(1)), str(tmp_path / "a.pt"))
    refused(tmp_path / "a.pt", "TorchScript", "export weights first")


def test_c19_compressed_members_are_refused_before_they_are_opened(
    tmp_path: Path, attacks: ModuleType, refused
) -> None:
    path = attacks.deflated_bomb(tmp_path / "a.pth")
    assert path.stat().st_size < 1 << 20
    refused(path, "is compressed")


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(1).expand(10**12), torch.zeros(3).as_strided((10**6, 10**6), (0, 0)), torch.zeros(4).unfold(0, 2, 1)],
    ids=["stride-0", "stride-0 twice", "overlapping"],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_c20_expanded_tensors_are_refused(tmp_path: Path, refused, tensor: torch.Tensor, legacy: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": {"fc.weight": tensor}}, path, _use_new_zipfile_serialization=not legacy)
    refused(path, "'state_dict.fc.weight' is expanded")


@pytest.mark.parametrize("legacy", [False, True])
def test_c20_tensors_that_claim_more_than_is_stored_are_refused(
    tmp_path: Path, attacks: ModuleType, refused, legacy: bool
) -> None:
    path = tmp_path / "a.pth"
    torch.save({"w": torch.ones(77)}, path, _use_new_zipfile_serialization=not legacy)
    size, larger = b"K\x4d\x85", b"J\xff\xff\xff\x7f\x85"  # the tuple (77,)
    if legacy:
        assert path.read_bytes().count(size) == 1
        path.write_bytes(path.read_bytes().replace(size, larger))
    else:
        with zipfile.ZipFile(path) as archive:
            pickled = archive.read("a/data.pkl")
        assert pickled.count(size) == 1
        attacks.rewrite(path, path.read_bytes(), replace={"a/data.pkl": pickled.replace(size, larger)})
    refused(path)


@pytest.mark.parametrize("name", ["detach", "sum", "is_floating_point"])
def test_c20_attributes_of_a_tensor_hide_nothing(tmp_path: Path, refused, name: str) -> None:
    tensor = torch.zeros(1).expand(10**12)
    setattr(tensor, name, 5)
    torch.save({"w": tensor}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "'w' is expanded")
    tensor = torch.full((2,), float("nan"))
    setattr(tensor, name, 5)
    torch.save({"w": tensor}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "NaN or infinite values in w")


def test_c20_many_views_of_one_storage_are_refused(tmp_path: Path, refused) -> None:
    base = torch.zeros(1000)
    torch.save({f"w{index}": base.view(10, 100) for index in range(200)}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "16 times the size of the file")


def test_c21_too_many_tensors_are_refused_quickly(tmp_path: Path, attacks: ModuleType, refused) -> None:
    path = attacks.many_tensors(tmp_path / "a.pth")
    begin = time.perf_counter()
    refused(path, "more than 50000 tensors")
    assert time.perf_counter() - begin < 10


def test_c21_too_many_entries_of_the_archive(torch_file: Path, refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_archive, "MAX_TENSORS", -10)
    refused(torch_file, "entries, more than")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", ["meta", "sparse", "csr", "quantised"])
@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_c32_tensors_without_dense_data_are_refused(tmp_path: Path, refused, kind: str, legacy: bool) -> None:
    tensors = {
        "meta": lambda: torch.zeros(2, device="meta"),
        "sparse": lambda: torch.eye(3).to_sparse(),
        "csr": lambda: torch.eye(3).to_sparse_csr(),
        "quantised": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    }
    torch.save({"w": tensors[kind]()}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    refused(tmp_path / "a.pth", "holds", {"csr": "sparse"}.get(kind, kind))


def test_c40_member_outside_the_archive_is_refused_and_nothing_extracted(
    torch_file: Path, attacks: ModuleType, refused
) -> None:
    path = attacks.rewrite(torch_file, torch_file.read_bytes(), replace={"../evil.txt": b"x"})
    before = sorted(path.parent.parent.rglob("*"))
    refused(path, "../evil.txt")
    assert sorted(path.parent.parent.rglob("*")) == before


def _reason_as_nobody(path: Path) -> str:
    """The reason that a reader without rights gets; a child process gives up root for it."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            read_weights(path)
        except BaseException as error:
            os.write(send, str(error).encode())
        finally:
            os._exit(0)
    os.close(send)
    os.waitpid(child, 0)
    with os.fdopen(receive) as stream:
        return stream.read()


def test_c45_unreadable_file(torch_file: Path, refused) -> None:
    torch_file.chmod(0)
    if os.getuid() == 0:
        assert "permission denied" in _reason_as_nobody(torch_file)
    else:
        refused(torch_file, "permission denied")


@pytest.mark.parametrize(
    "url", ["https://example.org/a.pth", "torchvision://resnet50", "open-mmlab://resnet50", "s3://bucket/a", "file:/a"]
)
def test_c46_urls_are_refused(refused, url: str) -> None:
    refused(url, "is a URL", "local files only")
    refused(url, "local files only", reader=load_torch_file)


def test_fifo_and_device_are_refused_at_once(tmp_path: Path, refused) -> None:
    os.mkfifo(tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "not a regular file")
    refused(Path("/dev/zero"), "not a regular file")


@pytest.mark.parametrize("name", ["bytearray_bomb", "numpy_array_bomb"])
def test_memory_bombs_are_refused_before_they_allocate(tmp_path: Path, attacks: ModuleType, refused, name: str) -> None:
    refused(getattr(attacks, name)(tmp_path / "a.pth"))


def test_nesting_without_end_is_refused(tmp_path: Path, attacks: ModuleType, refused) -> None:
    refused(attacks.holds_itself(tmp_path / "a.pth"), "nested without end")
    deep: list[object] = []
    for _ in range(150):
        deep = [deep]
    torch.save({"w": torch.ones(1), "meta": deep}, tmp_path / "b.pth")
    refused(tmp_path / "b.pth", "nested without end")


def test_lists_that_hold_each_other_cost_no_more_than_they_weigh(tmp_path: Path, attacks: ModuleType) -> None:
    tree = load_torch_file(attacks.billion_lists(tmp_path / "a.pth"))
    assert tree["meta"][0] is tree["meta"][9]


@pytest.mark.parametrize("legacy", [False, True])
def test_both_torch_formats_load_under_any_name(
    tmp_path: Path, state_dict: dict[str, torch.Tensor], legacy: bool
) -> None:
    for name in ("a.pth", "a.ckpt", "a", "a.safetensors", "a.json"):
        torch.save(state_dict, tmp_path / name, _use_new_zipfile_serialization=not legacy)
        tree = load_torch_file(tmp_path / name)
        assert all(torch.equal(tree[key], value) for key, value in state_dict.items())


def test_plain_tree_of_a_training_state_comes_back_whole(tmp_path: Path) -> None:
    net = torch.nn.Conv3d(1, 2, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net(torch.ones(1, 1, 2, 2, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    rng = {"torch": torch.get_rng_state(), "tuple": (3, (1, 2), None), "bytes": b"ab"}
    state = {
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "rng": rng,
        "net": net.state_dict(),
    }
    torch.save(state, tmp_path / "a.pth")
    tree = load_torch_file(tmp_path / "a.pth")
    assert tree["rng"]["tuple"] == (3, (1, 2), None)
    assert tree["rng"]["bytes"] == b"ab"
    assert torch.equal(tree["rng"]["torch"], rng["torch"])
    assert tree["scheduler"]["milestones"] == state["scheduler"]["milestones"]
    optimizer.load_state_dict(tree["optimizer"])
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], state["optimizer"]["state"][0]["exp_avg"])


def test_loads_in_several_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "n": np.float32(1)}, tmp_path / "a.pth")
    failures: list[Exception] = []

    def load_often() -> None:
        try:
            for _ in range(20):
                load_torch_file(tmp_path / "a.pth")
        except CheckpointError as error:
            failures.append(error)

    threads = [threading.Thread(target=load_often) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures


def test_error_survives_the_way_between_processes(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_weights(tmp_path / "absent.pth")
    assert pickle.loads(pickle.dumps(caught.value)).path == caught.value.path


def test_file_may_be_replaced_after_loading(tmp_path: Path, torch_file: Path) -> None:
    tensors = load_torch_file(torch_file)
    before = {key: value.clone() for key, value in tensors.items()}
    torch.save({"other": torch.zeros(3)}, tmp_path / "new")
    os.replace(tmp_path / "new", torch_file)
    assert all(torch.equal(tensors[key], value) for key, value in before.items())


def test_changing_a_loaded_tensor_leaves_the_file_alone(torch_file: Path) -> None:
    before = torch_file.read_bytes()
    for tensor in load_torch_file(torch_file).values():
        tensor.zero_()
    assert torch_file.read_bytes() == before


def test_limits_stand_above_what_networks_have() -> None:
    assert tensor_checks.MAX_TENSORS >= 10_000
    assert sys.maxsize > torch_archive.MAX_PICKLE_BYTES >= 16 << 20


def test_truncated_legacy_file(tmp_path: Path, refused, state_dict: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "a.pth"
    torch.save(state_dict, path, _use_new_zipfile_serialization=False)
    shutil.copy(path, tmp_path / "b.pth")
    for keep in (0.1, 0.5, 0.95):
        data = (tmp_path / "b.pth").read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        refused(path, "truncated or damaged")
