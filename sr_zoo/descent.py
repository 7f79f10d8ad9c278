"""How a method is trained: its generator and its objective's own network descend in turn.

Nothing here knows which objective it is: one without a network of its own has no prior to train, one whose prior is not ready lets
the generator wait.
"""

import functools
import warnings

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sr_zoo.graphed import GraphedStep, share_of_newest
from sr_zoo.optimizers import make_optimizers, scheduled

__all__ = ["Trained", "TrainingDiverged"]


class TrainingDiverged(RuntimeError):
    """A loss or gradient is not finite."""


class Trained(pl.LightningModule):
    """Trains ``generator`` by ``objective`` and ``consistency``, which a subclass makes; arguments as those of SuperResolver.

    A subclass also has ``forward(lr)`` and ``degrade(hr)``. Batches are those of SRDataModule.
    """

    generator: nn.Module
    consistency: nn.Module
    objective: nn.Module

    def __init__(
        self,
        optimizer: str,
        learning_rate: float,
        warmup_steps: int,
        gradient_clip: float,
        ema_decay: float,
        prior_steps: int,
        prior_start: int,
        prior_learning_rate: float | None,
        schedule: str = "cosine",
    ):
        super().__init__()
        self.automatic_optimization = False
        self.optimizer_name, self.learning_rate, self.warmup_steps = optimizer, learning_rate, warmup_steps
        self.gradient_clip, self.ema_decay = gradient_clip, ema_decay
        self.prior_steps, self.prior_start = prior_steps, prior_start
        self.prior_learning_rate = learning_rate if prior_learning_rate is None else prior_learning_rate
        if prior_steps < 0 or prior_start < 0:
            raise ValueError(f"prior_steps and prior_start are {prior_steps} and {prior_start}, expected 0 or more")
        self.factor = functools.partial(scheduled, schedule, warmup_steps)
        self.factor(1)  # refuses an unknown one now
        self.ema = self._whole_step = None

    def setup(self, stage: str) -> None:
        if self.ema is None and self.ema_decay:
            self.ema = AveragedModel(self.generator, multi_avg_fn=_average(self.ema_decay))
            self.ema.requires_grad_(False)

    def configure_optimizers(self):
        total = self.trainer.max_steps
        if total <= 0:
            raise ValueError(
                "trainer.max_steps: not given; a training ends, and its learning rate reaches 0, after so many steps"
            )
        generator = make_optimizers(self.generator, self.optimizer_name, self.learning_rate)
        learns = self.prior_steps and any(p.requires_grad for p in self.objective.parameters())
        prior = make_optimizers(self.objective, self.optimizer_name, self.prior_learning_rate) if learns else []
        self._generator_optimizers = len(generator)
        schedule = torch.optim.lr_scheduler.LambdaLR
        return generator + prior, [
            *(schedule(o, self.factor(total, self.prior_start if learns else 0)) for o in generator),
            *(schedule(o, self.factor(total)) for o in prior),
        ]

    def on_train_start(self) -> None:
        # A resumed training takes the learning rate that is asked for now, not the one in its checkpoint, nor what a graph needs.
        for i, scheduler in enumerate(_as_list(self.lr_schedulers())):
            rate = self.learning_rate if i < self._generator_optimizers else self.prior_learning_rate
            scheduler.base_lrs = [rate] * len(scheduler.base_lrs)
            for group, factor in zip(scheduler.optimizer.param_groups, scheduler.lr_lambdas):
                group["lr"] = rate * factor(scheduler.last_epoch)
                if "capturable" in group:
                    group["capturable"] = False

    def on_validation_start(self) -> None:
        self._stop_if_failed()

    on_train_end = on_validation_start

    def load_state_dict(self, state: dict, strict: bool = True, assign: bool = False):
        """As torch's, with a ValueError of one line where the weights are of another network."""
        try:
            return super().load_state_dict(state, strict, assign)
        except RuntimeError as error:
            raise ValueError(
                f"the checkpoint's weights do not fit this model ({' '.join(str(error).split())[:200]})"
            ) from None

    def on_fit_start(self) -> None:
        # A model that was loaded is in evaluation mode, in which Lightning would leave it.
        self.train()
        self._seed = torch.initial_seed() % 2**32
        self._graphed = any(getattr(c, "graphs_steps", False) for c in self.trainer.callbacks)
        self._whole_step = None
        # While a prior learns alone, the generator's schedule goes on without its steps: meant so.
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        if self.trainer.precision == "16-mixed":
            raise ValueError(
                "trainer.precision: 16-mixed scales losses, of which the norms of gradients here know nothing; use bf16-mixed"
            )
        if self.objective.paired and getattr(self.trainer.datamodule, "train_lr", None) is not None:
            raise ValueError("data.train_lr: pictures without their originals; this method's objective needs pairs")

    def training_step(self, batch: dict, batch_index: int) -> None:
        optimizers = _as_list(self.optimizers())
        if self._graphed:
            self._replay(batch["hr"], optimizers)
            return
        mine, prior = optimizers[: self._generator_optimizers], optimizers[self._generator_optimizers :]
        # Counted by what has been done, so that a resumed training goes on where it was.
        step = self.trainer.global_step
        torch.manual_seed(self._seed + step)
        self.objective.progress = step / self.trainer.max_steps
        moves = not prior or (step >= self.prior_start and step % self.prior_steps == 0 and self.objective.ready)
        hr = batch["hr"].float() / 255
        lr = batch["lr"].float() / 255 if "lr" in batch else self.degrade(hr)
        with torch.set_grad_enabled(moves):
            sr = self(lr) if moves or self.objective.needs_samples else None
        if prior:
            loss = self.objective.fit(None if sr is None else sr.detach(), hr)
            self._descend(loss, self.objective, prior, "prior", counts=True)
        if moves:
            loss = self.objective(sr, hr, lr) + self.consistency.penalty(sr, lr)
            self._descend(loss, self.generator, mine, "generator", self.gradient_clip, counts=not prior)
            if self.ema is not None:
                self.ema.update_parameters(self.generator)
        for scheduler in _as_list(self.lr_schedulers()):
            scheduler.step()
        for name, value in self.objective.log.items():
            self.log(name, value)
        if sr is not None and "lr" not in batch:
            self.log("psnr", -10 * torch.log10((sr.detach() - hr).square().mean()), prog_bar=True)

    def _replay(self, hr: Tensor, optimizers: list) -> None:
        """The same in one go, see :class:`~sr_zoo.graphed.GraphedStep`."""
        if self._whole_step is None:
            raw = [o.optimizer for o in optimizers]
            self._whole_step = GraphedStep(self, raw, hr)
            # Lightning counts the steps of the optimisers that it runs: it shall run one, and that is everything.
            raw[0].step = self._whole_step
        self._whole_step.hr.copy_(hr)
        optimizers[0].step()
        for scheduler in _as_list(self.lr_schedulers()):
            scheduler.step()
        every = self.trainer.log_every_n_steps
        if every and self.trainer.global_step % every == 0:  # reading a figure means waiting for the GPU
            self._stop_if_failed()
            self.log("loss/generator", self._whole_step.loss.clone(), prog_bar=True)
            self.log("psnr", self._whole_step.psnr.clone(), prog_bar=True)

    def _stop_if_failed(self) -> None:
        if self._whole_step is not None and self._whole_step.failed:
            raise TrainingDiverged(
                f"a loss or gradient was not finite before step {self.trainer.global_step}; try a lower learning_rate or "
                "a gradient_clip"
            )

    def _descend(
        self, loss: Tensor, module: nn.Module, optimizers: list, name: str, clip: float = 0.0, counts: bool = False
    ) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        # Under autocast the projection's gradient would be computed in bf16, and a part of it that A sees would be left: optimisers
        # that scale small gradients up then let the raw picture drift away along what nothing holds.
        with torch.autocast(self.device.type, enabled=False):
            self.manual_backward(loss)
        norm = nn.utils.clip_grad_norm_(module.parameters(), clip or float("inf"))
        if not torch.isfinite(loss.detach() + norm):  # one question, as a GPU has to be waited for
            # Before the step: the weights in memory and on disk are still good ones.
            raise TrainingDiverged(
                f"the {name}'s loss is {loss.item()} with gradient norm {norm.item()} at step {self.trainer.global_step}; "
                "the weights before this step are kept; try a lower "
                + ("learning_rate or a gradient_clip" if name == "generator" else "prior_learning_rate")
            )
        for i, optimizer in enumerate(optimizers):
            # Lightning counts a step for each optimiser it sees: it shall see one for each batch.
            (optimizer if counts and i == 0 else optimizer.optimizer).step()
        self.log(f"loss/{name}", loss.detach(), prog_bar=True)


def _average(decay: float):
    @torch.no_grad()
    def update(averaged, current, count):
        torch._foreach_lerp_(averaged, current, share_of_newest(decay, count))

    return update


def _as_list(x) -> list:
    return x if isinstance(x, (list, tuple)) else [x]
