"""What can be foreseen has its sentence and its exit code; "this is a bug" is for bugs."""

import csv
import errno
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from muse_cli.settings import memory_hint
from muse_cli.spec import CommandSpec
from muse_core.errors import TRAINING_MEMORY, ExitCode, MuseError, explained, lack_of_memory
from muse_core.interrupts import Terminated
from muse_core.runs import RunFolder
from muse_core.settings.measuring import AttentionSettings, EvalSettings, ProbeSettings
from muse_core.settings.sharding import ShardSettings
from muse_core.settings.train import TrainSettings
from tests.cli.conftest import Muse, shell_environment
from tests.field.conftest import Case

Install = Callable[..., None]

MEMORY = [
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
        "2352000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 400 bytes."),
    RuntimeError("std::bad_alloc"),
    RuntimeError("posix_memalign failed with 12"),
    RuntimeError("unable to mmap 4096 bytes from file <x>: Cannot allocate memory (12)"),
    MemoryError("Unable to allocate 59.6 GiB for an array with shape (1000000000, 8) and data type float64"),
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    RuntimeError(
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback\n  RuntimeError: std::bad_alloc"
    ),
]
GPU_MEMORY = [
    RuntimeError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which ..."
    ),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("HIP out of memory. Tried to allocate 2.00 MiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB, max allowed: 9.07 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    RuntimeError(
        "NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled cuda error, NCCL version 2.21.5\nncclUnhandledCudaError: "
        "Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'"
    ),
]
NOT_MEMORY = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"),
    RuntimeError("NCCL error: unhandled system error\nncclSystemError: connection refused"),
    ValueError("the memory of an elephant"),
    KeyError("allocate"),
]


@pytest.mark.parametrize("error", MEMORY, ids=lambda error: str(error)[:50])
def test_i3_every_allocator_that_finds_no_room_is_6(error: Exception) -> None:
    known = explained(error)
    assert known is not None
    assert known.exit_code == ExitCode.MACHINE
    assert known.what.startswith("not enough memory")
    assert "enforce fail" not in known.what
    assert "\n" not in known.what


@pytest.mark.parametrize("error", GPU_MEMORY, ids=lambda error: str(error)[:50])
def test_i3_allocators_of_gpus_say_which_memory_it_is(error: Exception) -> None:
    known = explained(error)
    assert known is not None
    assert known.exit_code == ExitCode.MACHINE
    assert known.what.startswith("not enough GPU memory: ")
    assert len(known.what) < 250


@pytest.mark.parametrize("error", NOT_MEMORY, ids=str)
def test_other_errors_are_not_taken_for_lack_of_memory(error: Exception) -> None:
    assert lack_of_memory(error) is None
    assert explained(error) is None


def test_torch_says_it_as_it_is_expected_here() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert lack_of_memory(caught.value)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(2**55)
    assert lack_of_memory(of_numpy.value)


def test_i3_the_hint_fits_what_is_done() -> None:
    eval_hint = memory_hint(EvalSettings())
    assert eval_hint.index("--batch-size") < eval_hint.index("--size-px")
    assert memory_hint(EvalSettings(batch_size=1)) == memory_hint(AttentionSettings()) == "a smaller --size-px"
    assert memory_hint(ProbeSettings()) == "fewer images: --limit and --train-limit"
    assert memory_hint(ShardSettings()) == "fewer --workers"
    train = memory_hint(TrainSettings())
    places = [train.index(word) for word in ("training.checkpointing", "training.accumulation", "--batch-size")]
    assert places == sorted(places)
    on = TrainSettings.model_validate({"training": {"checkpointing": True}})
    assert "checkpointing" not in memory_hint(on)


def test_i3_a_run_records_the_hint_for_training(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {}, {})
    run.fail(MEMORY[0])
    assert run.status.exit_code == ExitCode.MACHINE
    assert run.status.hint == TRAINING_MEMORY
    assert (run.status.error or "").startswith("not enough memory: DefaultCPUAllocator")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is on Linux")
def test_i3_too_little_memory_is_no_bug(case: Case) -> None:
    folder = case("i3-memory")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (6_000_000_000, resource.RLIM_INFINITY))

    command = ["eval", "tiny", "--data", "t", "--metric", "psnr", "--size-px", "14000", "--batch-size", "1", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "muse_cli", *command],
        capture_output=True,
        cwd=folder,
        env=shell_environment(OMP_NUM_THREADS="1"),
        preexec_fn=limit,
        timeout=300,
        check=False,
    )
    assert done.returncode == ExitCode.MACHINE
    document = json.loads(done.stdout)
    assert document["error"].startswith("not enough memory")
    assert document["hint"] == "a smaller --size-px"


def end(install: Install, error: BaseException) -> None:
    def run() -> None:
        raise error

    install("muse.commands", "end", "ending:SPEC", SPEC=CommandSpec("End.", "ending:run"), run=run)


class Odd(BaseException):
    """An error of no usual kind, as libraries of threads and tasks have them."""


ENDINGS = [
    (csv.Error("field larger than field limit (131072)"), 4, "a table cannot be read as csv: field larger"),
    (RuntimeError("can't start new thread"), 6, "this machine starts no more processes or threads"),
    (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 6, "starts no more processes or threads"),
    (OSError(errno.EMFILE, "Too many open files", "x"), 6, "too many files are open in this process"),
    (OSError(errno.EROFS, "Read-only file system", b"a\xff"), 4, "a\\udcff: Read-only file system"),
    (OSError(errno.EBADF, "Bad file descriptor", 7), 4, "a file could not be read or written: Bad file descriptor"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (Terminated(), 143, "terminated"),
    (RecursionError("maximum recursion depth exceeded"), 1, "this is a bug in muse: RecursionError"),
    (Odd("odd"), 1, "this is a bug in muse: Odd: odd"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), 1, "this is a bug in muse: Unicode"),
]


@pytest.mark.parametrize(("error", "code", "what"), ENDINGS, ids=lambda value: type(value).__name__)
def test_every_way_of_ending_has_its_sentence_its_code_and_one_document(
    error: BaseException, code: int, what: str, install: Install, muse: Muse
) -> None:
    end(install, error)
    ended = muse("end", "--json")
    assert ended.code == code == ended.json["exit_code"]
    assert what in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Terminated()])
def test_an_interrupt_while_commands_are_imported_is_an_interrupt(
    error: KeyboardInterrupt, muse: Muse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise error

    monkeypatch.setattr("typer.main.get_command", interrupt)
    ended = muse("ls", "--json")
    assert ended.code == ended.json["exit_code"] == getattr(error, "exit_code", ExitCode.INTERRUPTED)


@pytest.mark.parametrize("code", [0, 3, None, "words"])
def test_a_plugin_that_exits_still_leaves_one_document(code: object, install: Install, muse: Muse) -> None:
    end(install, SystemExit(code))
    ended = muse("end", "--json")
    assert ended.code == ended.json["exit_code"] == (code if isinstance(code, int) else int(code is not None))


def test_a_result_of_any_kind_is_one_document(install: Install, muse: Muse) -> None:
    from muse_cli.output import out

    def run() -> int:
        print("talk")
        out.result({"a": np.float32("nan"), "b": np.arange(2), "c": {1}, "d": Path("x"), "e": object, "f": 1 + 2j})
        return 8

    install("muse.commands", "end", "ending:SPEC", SPEC=CommandSpec("End.", "ending:run"), run=run)
    ended = muse("end", "--json")
    assert ended.code == 8
    assert {**ended.json, "e": ""} == {
        "a": None,
        "b": [0, 1],
        "c": [1],
        "d": "x",
        "e": "",
        "f": "(1+2j)",
        "exit_code": 8,
    }


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--bogus", "--json"], ["ls", "--help", "--json"]])
def test_with_json_there_is_always_one_document_or_none_without(arguments: list[str], muse: Muse) -> None:
    ended = muse(*arguments)
    if "--json" in arguments:
        assert ended.json["exit_code"] == ended.code
    else:
        assert ended.code == ExitCode.USAGE


def test_a_muse_error_stays_what_it_is() -> None:
    error = MuseError("std::bad_alloc", "hint", 3)
    assert explained(error) is error
