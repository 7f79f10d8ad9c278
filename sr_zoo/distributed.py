"""Work shared among the processes that ``torchrun`` or SLURM's ``srun`` started, on one machine or many.

Lightning's distributed prediction finds the processes, connects them (gloo, on the processor) and splits the list. Each gets
its whole share in one step of the prediction, not a file per step: within its share, reading, computing and writing overlap,
which steps that wait for one another would undo.
"""

import datetime
import os
import signal
from collections.abc import Callable, Sequence

from sr_zoo.errors import UserError
from sr_zoo.hints import without_hints

__all__ = ["first", "launched", "processes", "shared"]

# How long the first to finish waits for the last; a process that dies is noticed at once.
PATIENCE = datetime.timedelta(days=30)


def launched() -> bool:
    """Whether several processes share the work."""
    return processes() > 1


def processes() -> int:
    """How many processes share the work, by what the environment says; nothing is imported to know it."""
    if _torchrun():
        return int(os.environ.get("WORLD_SIZE", 1))
    # Of the step, which only srun sets: a batch script by itself is one process, however many tasks it asked for.
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))


def first() -> bool:
    """Whether this is the process that speaks for all."""
    return not launched() or int(os.environ["RANK" if _torchrun() else "SLURM_PROCID"]) == 0


def shared(items: Sequence, work: Callable[[list], object]) -> list:
    """Let each process do ``work`` on its share of ``items``; to be called by all, with the same items.

    Args:
        items: the share of process r of n is every n-th, from the r-th on.
        work: takes a list of items; what it returns is pickled.

    Returns:
        What ``work`` returned in each process, the same list in all of them.

    Raises:
        UserError: SLURM does not say how many processes each machine has.
    """
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
    from lightning.pytorch.strategies import DDPStrategy

    class Share(LightningModule):
        """Without parameters, so that the model stays where it is."""

        def predict_step(self, numbers: list[int]) -> None:
            # Lightning's handler would wait for the other processes, which are at work or gone.
            signal.signal(signal.SIGTERM, before)
            try:
                own = work([items[i] for i in numbers if i < len(items)])
            except KeyboardInterrupt as error:
                raise _Interrupted from error
            self.all = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(self.all, own)

    before, share, count = signal.getsignal(signal.SIGTERM), Share(), processes()
    # Each process must have a number, so that Lightning lets it take its step; those beyond the items stand for nothing.
    numbers = range(max(len(items), count))
    loader = torch.utils.data.DataLoader(numbers, batch_size=len(numbers), collate_fn=list)
    devices = _per_machine()
    with without_hints(of=""):
        trainer = Trainer(
            accelerator="cpu", devices=devices, num_nodes=count // devices, logger=False, enable_checkpointing=False,
            strategy=DDPStrategy(process_group_backend="gloo", timeout=PATIENCE), enable_progress_bar=False,
            enable_model_summary=False, plugins=TorchElasticEnvironment() if _torchrun() else SLURMEnvironment(False),
        )  # fmt: skip
        try:
            trainer.predict(share, loader, return_predictions=False)
        except _Interrupted as error:
            raise error.__cause__ from None
        # Threads of a group that is left standing can abort a process which is about to end well.
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return share.all


class _Interrupted(BaseException):
    """A KeyboardInterrupt that Lightning does not turn into exit code 1."""


def _torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _per_machine() -> int:
    if _torchrun():
        return int(os.environ["LOCAL_WORLD_SIZE"])
    if "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise UserError("SLURM: give srun --ntasks-per-node N instead of --ntasks, the number of processes on each machine")
    return int(os.environ["SLURM_NTASKS_PER_NODE"])
