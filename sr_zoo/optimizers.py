"""Optimisers and the learning-rate schedule that the methods share."""

import math

import torch
from torch import nn

__all__ = ["SCHEDULES", "Muon", "make_optimizers", "scheduled"]


def make_optimizers(module: nn.Module, name: str, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Optimisers that together hold every parameter of ``module``.

    ``"adam"``: one Adam. ``"muon"``: Muon for the inner convolutions, Adam for biases and for the first and last layer,
    whose few channels are no general matrices.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    adam = {"lr": learning_rate, "betas": (0.9, 0.99)}
    if name == "adam":
        return [torch.optim.Adam(parameters, **adam)]
    if name != "muon":
        raise ValueError(f"optimizer: {name!r} is not 'adam' or 'muon'")
    inner = [p for p in [p for p in parameters if p.ndim == 4][1:-1] if min(p.shape[0], p.shape[1]) >= 16]
    held = {id(p) for p in inner}
    rest = [p for p in parameters if id(p) not in held]
    # With nothing for one of them, the other does it all.
    return ([Muon(inner, learning_rate)] if inner else []) + ([torch.optim.Adam(rest, **adam)] if rest else [])


def _cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


# Share of the training that is done → factor of the learning rate.
SCHEDULES = {"cosine": _cosine, "constant": lambda done: 1.0}


def scheduled(name: str, warmup: int, total: int, start: int = 0):
    """Factor of the learning rate at a step: linear from 0 over ``warmup`` steps after ``start``, times one of ``SCHEDULES``.

    Raises:
        ValueError: no such schedule.
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule: {name!r} is not one of {', '.join(SCHEDULES)}")

    def factor(step: int) -> float:
        rise = min(1.0, max(0, step - start + 1) / max(1, warmup))
        return rise * SCHEDULES[name](step / max(1, total))

    return factor


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, for convolutions: each kernel is a matrix (outputs × inputs·taps).

    torch.optim.Muon takes 2-D parameters only; this one takes kernels of any shape and orthogonalises those of one shape
    together, which on two cores makes it four times cheaper. The update's root mean square is that of Adam at the same
    learning rate (0.2 · learning rate), so one rate and one schedule serve both.

    Source: Jordan et al. 2024, "Muon"; the scaling after Liu et al. 2025, arXiv 2502.16982, equation 4.
    """

    def __init__(self, params, lr: float, momentum: float = 0.95, iterations: int = 5):
        super().__init__(params, {"lr": lr, "momentum": momentum, "iterations": iterations})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for shape, params in shapes.items():
                averages = [self.state[p].setdefault("average", torch.zeros_like(p)) for p in params]
                gradients = [p.grad for p in params]
                torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
                updates = [u.flatten(1) for u in torch._foreach_lerp(gradients, averages, group["momentum"])]
                matrices = _orthogonalise(torch.stack(updates), group["iterations"])
                size = 0.2 * math.sqrt(max(matrices.shape[1:]))
                rate = -group["lr"] * size
                if isinstance(rate, torch.Tensor):  # read anew whenever a graph that holds this step is replayed
                    matrices, rate = matrices * rate, 1.0
                torch._foreach_add_(params, [m.view(shape) for m in matrices], alpha=rate)
        return loss


def _orthogonalise(matrices: torch.Tensor, iterations: int) -> torch.Tensor:
    """Nearest (semi-)orthogonal matrices, roughly: Newton–Schulz with Jordan's coefficients. Autocast may make it bf16: enough."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return x.mT if tall else x
