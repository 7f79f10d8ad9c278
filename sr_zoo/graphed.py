"""A whole training step as one CUDA graph: small networks keep a GPU waiting for Python to launch the next kernel."""

import torch
from torch import Tensor, nn

__all__ = ["GraphedStep", "share_of_newest"]

EAGER = 5  # steps before the capture: by then caches are filled and the kernels chosen


class GraphedStep:
    """Loss, gradients, update and running average of a method without a prior, captured once and replayed from then on.

    The same arithmetic as :meth:`sr_zoo.descent.Trained.training_step`, but for one thing: a step whose loss or gradient is not
    finite is known of some steps later. Until then its gradients count as zero, so the weights stay finite.

    Without a GPU every step runs as it is.

    Args:
        module: a :class:`~sr_zoo.descent.Trained`.
        optimizers: those of its generator.
        hr: any batch, uint8 ``(batch, 3, height, width)``; all others must have its shape.

    Attributes:
        hr: where the next batch is to be put.
        loss, psnr: of the last step, on the device of ``hr``.
        failed: whether any step so far was not finite, a tensor of one bool.
    """

    def __init__(self, module: nn.Module, optimizers: list[torch.optim.Optimizer], hr: Tensor):
        self.module, self.hr, self.steps, self.graph = module, hr.clone(), 0, None
        self.updates = [o.step for o in optimizers]
        self.parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]
        self.failed = torch.zeros((), dtype=torch.bool, device=hr.device)
        if hr.is_cuda:
            for group in (g for o in optimizers for g in o.param_groups):
                # What changes from step to step must be read from memory by the graph.
                group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=hr.device)
                if "capturable" in group:
                    group["capturable"] = True
            for state in (s for o in optimizers for s in o.state.values() if "step" in s):
                state["step"] = state["step"].to(hr.device)  # of a training that went on without a graph before
        if module.ema is not None:
            self.averaged = list(module.ema.module.parameters())
            self.current = list(module.generator.parameters())
            self.copied = list(module.ema.module.buffers()), list(module.generator.buffers())
            self.share = torch.zeros((), device=hr.device)
            self.count = int(module.ema.n_averaged)

    _wrapped_by_lr_sched = True  # as torch marks the steps that its schedules know of

    def __call__(self, closure=None) -> None:
        """One step on the batch in ``hr``; ``closure`` is there for whoever takes this for an optimiser's step."""
        if self.module.ema is not None:
            self.share.fill_(share_of_newest(self.module.ema_decay, self.count) if self.count else 1.0)
            self.count += 1
        self.steps += 1
        if not self.hr.is_cuda:
            self._work()
        elif self.steps <= EAGER:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._work()
            torch.cuda.current_stream().wait_stream(stream)
        else:
            if self.graph is None or self.objective is not self.module.objective:
                self._capture()
            self.graph.replay()

    def _capture(self) -> None:
        for p in self.parameters:
            p.grad = None  # so that gradients live in the graph's memory
        self.objective = self.module.objective  # another one, later, is not in the graph
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._work()

    def _work(self) -> None:
        module = self.module
        for p in self.parameters:
            p.grad = None
        hr = self.hr.float() / 255
        lr = module.degrade(hr)
        sr = module(lr)
        loss = module.objective(sr, hr, lr) + module.consistency.penalty(sr, lr)
        with torch.autocast(hr.device.type, enabled=False):  # see Trained._descend
            loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, module.gradient_clip or float("inf"))
        bad = ~torch.isfinite(loss.detach() + norm)
        self.failed.logical_or_(bad)
        for gradient in (p.grad for p in self.parameters if p.grad is not None):
            gradient.masked_fill_(bad, 0.0)
        for update in self.updates:
            update()
        if module.ema is not None:
            with torch.no_grad():
                apart = torch._foreach_sub(self.current, self.averaged)
                torch._foreach_mul_(apart, self.share)
                torch._foreach_add_(self.averaged, apart)
                if self.copied[0]:
                    torch._foreach_copy_(*self.copied)
                module.ema.n_averaged.add_(1)
        self.loss = loss.detach()
        self.psnr = -10 * torch.log10((sr.detach() - hr).square().mean())


def share_of_newest(decay: float, count) -> float:
    """What of the running average the newest weights make, ``count`` of them being in it."""
    # Short memory at first, so that the average does not remember the initial weights.
    return 1 - min(decay, float(1 - 1 / (1 + count / 10)))
