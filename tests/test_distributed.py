"""Several processes share the work as one would do it; real processes, real connections."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from sr_zoo import distributed
from sr_zoo.errors import UserError
from sr_zoo.folder import upscale_folder
from tests.test_folder import FLOAT, contents, photos  # noqa: F401


def test_alone_is_not_shared(monkeypatch):
    assert not distributed.launched() and distributed.first()
    # A batch script of SLURM, in which srun has not started anything.
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert not distributed.launched()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert distributed.launched() and not distributed.first()
    with pytest.raises(UserError, match="--ntasks-per-node"):
        distributed.shared([1], len)


def test_who_asks_imports_nothing():
    command = (
        "import sys, sr_zoo.distributed as d; d.launched(); d.first(); print({'lightning', 'torch'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, text=True).stdout == "set()\n"


def torchrun(folder, arguments: list[str]) -> tuple[list[int], str, str]:
    """Exit codes, standard output and error of the command line in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sr_zoo"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=120)
    return [done.returncode], done.stdout, done.stderr


def srun(folder, arguments: list[str]) -> tuple[list[int], str, str]:
    """The same by another hand; there need be no SLURM here."""
    port, context = free_port(), forkserver()
    processes = [context.Process(target=command_line, args=(r, port, str(folder), arguments)) for r in range(2)]
    for p in processes:
        p.start()
    for p in processes:
        p.join(120)
    out, err = ("".join((folder / f"{name}{r}").read_text() for r in range(2)) for name in ("out", "err"))
    return [p.exitcode for p in processes], out, err


@pytest.mark.parametrize("launcher", [srun, pytest.param(torchrun, marks=pytest.mark.slow)])
def test_two_processes_give_the_folder_of_one(launcher, photos, checkpoint, model, tmp_path):  # noqa: F811
    """With a picture that is damaged, and one that is there already."""
    (photos / "c.bmp").write_bytes(b"no picture")
    whole = upscale_folder(photos, tmp_path / "whole", model, FLOAT, recursive=True)
    (tmp_path / "out" / "more").mkdir(parents=True)
    there = tmp_path / "out" / "more" / "f_x4.png"
    there.write_bytes((tmp_path / "whole" / "more" / "f_x4.png").read_bytes())
    written = there.stat().st_mtime_ns
    codes, out, err = launcher(tmp_path, [
        "upscale", str(photos), "-o", f"{tmp_path}/out", "-r", "--skip-existing", "--model", str(checkpoint),
        "--precision", "float32", "--report", f"{tmp_path}/report.csv",
    ])  # fmt: skip
    assert set(codes) == {1} and contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert there.stat().st_mtime_ns == written
    told = out.splitlines()
    assert len(told) == 1 and told[0].startswith("7 pictures upscaled") and "1 failed, 1 skipped" in told[0]
    reasons = [f"sr-zoo: {r.reason}" for r in whole.results if r.state == "failed"]
    assert [line for line in err.splitlines() if line.startswith("sr-zoo: ")] == reasons
    assert len((tmp_path / "report.csv").read_text().splitlines()) == 10


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def forkserver():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sr_zoo.cli", "sr_zoo.folder", "sr_zoo.hub", "sr_zoo.methods", "tests.test_folder"])
    return context


def become(rank: int, port: int) -> None:
    """One of two processes that srun started."""
    os.environ |= {
        "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1",
        "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0", "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def command_line(rank: int, port: int, folder: str, arguments: list[str]) -> None:
    """Its output goes to files ``out0``, ``err0`` and so on."""
    import torch

    from sr_zoo.cli import main

    become(rank, port)
    torch.set_num_threads(1)
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{folder}/{name}{rank}", os.O_WRONLY | os.O_CREAT), number)
    code = main(arguments)
    sys.stdout.flush()
    os._exit(code)


def process(rank: int, port: int, answers, items: list, waits: float = 0) -> None:
    """What it was given and got goes to ``answers``."""
    become(rank, port)

    def work(own: list) -> list:
        answers.put(("began", rank))
        for _ in range(round(10 * waits)):
            time.sleep(0.1)  # a signal just before one long sleep would be seen after it
        return own

    try:
        answers.put((rank, distributed.shared(items, work)))
    except KeyboardInterrupt:
        answers.put(("interrupted", rank))
        os._exit(130)


@pytest.fixture
def pair():
    """Starts two processes; returns them and the queue of their answers."""
    started = []

    def start(items: list, waits: float = 0):
        port, context = free_port(), forkserver()
        answers = context.Queue()
        started.extend(context.Process(target=process, args=(r, port, answers, items, waits)) for r in range(2))
        for p in started:
            p.start()
        return started, answers

    yield start
    for p in started:
        p.kill()


@pytest.mark.parametrize("items", [[0, 1, 2, 3, 4], ["one"], []])
def test_srun_shares_every_item_once(items, pair):
    processes, answers = pair(items)
    got = [answers.get(timeout=60) for _ in range(4)]
    for rank in (0, 1):
        assert ("began", rank) in got and (rank, [items[0::2], items[1::2]]) in got
    for p in processes:
        p.join(60)
        assert p.exitcode == 0


@pytest.mark.parametrize("kind, code", [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_a_process_at_once(kind, code, pair):
    """Lightning alone would turn the first into exit code 1 and wait for the other process after the second."""
    processes, answers = pair([1, 2], waits=60)
    assert {answers.get(timeout=60), answers.get(timeout=60)} == {("began", 0), ("began", 1)}
    os.kill(processes[1].pid, kind)
    processes[1].join(40)
    assert processes[1].exitcode == code
