"""SuperResolver joins generator × consistency × objective into a LightningModule; a method names its parts.

=========  ===========  ============
method     consistency  objective
=========  ===========  ============
MSE        free         regression
AffMSE     affine       regression
SoftGAN    soft         adversarial
AffGAN     affine       adversarial
AffDAE     affine       denoising
AffLL      affine       likelihood
=========  ===========  ============
"""

import copy

import torch
from torch import Tensor, nn

from sr_zoo import metrics
from sr_zoo.consistency import CONSISTENCIES
from sr_zoo.descent import Trained
from sr_zoo.generators import GENERATORS
from sr_zoo.objectives import OBJECTIVES
from sr_zoo.operators import Downsampler

__all__ = ["METHODS", "MSE", "AffDAE", "AffGAN", "AffLL", "AffMSE", "SoftGAN", "SuperResolver"]


class SuperResolver(Trained):
    """A method: LR pictures ``(batch, 3, h, w)`` in [0, 1] → HR pictures ``(batch, 3, scale·h, scale·w)``, float32.

    Args:
        scale: integer factor.
        kernel: the known downsampling kernel, see :class:`~sr_zoo.operators.Downsampler`.
        ridge: above 0, regularises A⁺ for ill-conditioned kernels.
        generator: a registered name, ``{"name": …, **arguments}``, or any ``nn.Module`` (which then cannot be written
            into a checkpoint folder; nor can a method whose objective is given a module).
        consistency: arguments of the method's consistency, or another one by name.
        objective: arguments of the method's objective, or another one by name.
        optimizer: ``"adam"`` or ``"muon"``.
        learning_rate: peak, reached after ``warmup_steps``.
        warmup_steps: steps of linear warm-up.
        gradient_clip: largest norm of the generator's gradient, 0 for none.
        ema_decay: of the averaged weights that validation and checkpoints use, 0 for none.
        prior_steps: steps of the objective's own network, each on new pictures, for one of the generator; 0 keeps it as it is.
            A step, also in ``max_steps``, is one batch: with a prior the generator moves in one of ``prior_steps`` batches.
        prior_start: steps before the generator moves at all; ``max_steps`` of them train the prior alone.
        prior_learning_rate: peak of the objective's own network, ``learning_rate`` if None.
        schedule: how the learning rate goes on after warm-up: ``"cosine"``, to zero at ``max_steps``, or ``"constant"``, for a
            training of any length from which shorter ones then start that fall to zero.
        noise_channels: planes of noise beside the LR picture: g(x, z) = Π f(x, z), amortised variational inference (paper,
            appendix F). The generator must take them.

    Raises:
        ValueError: a part or argument that does not exist or makes no sense.
    """

    parts = ("free", "regression")
    folder = None  # the checkpoint folder that it was loaded from
    origin = ()  # the model that this one was made of, for another kernel or noise: in a tuple it is no part of this one
    precisions = ("bf16", "float32")  # those that its network may be computed in

    def __init__(
        self,
        scale: int = 4,
        kernel: str | list = "bicubic",  # no deeper, as whoever parses recipes would look at each number
        ridge: float = 0.0,
        generator: str | dict = "residual",
        consistency: dict | None = None,
        objective: dict | None = None,
        optimizer: str = "adam",
        learning_rate: float = 2e-3,
        warmup_steps: int = 200,
        gradient_clip: float = 0.0,
        ema_decay: float = 0.999,
        prior_steps: int = 1,
        prior_start: int = 0,
        prior_learning_rate: float | None = None,
        noise_channels: int = 0,
        schedule: str = "cosine",
    ):
        super().__init__(
            optimizer, learning_rate, warmup_steps, gradient_clip, ema_decay, prior_steps, prior_start, prior_learning_rate,
            schedule,
        )  # fmt: skip
        self.scale = scale
        consistency = {"name": self.parts[0], **(consistency or {})}
        objective = {"name": self.parts[1], **(objective or {})}
        kernel = kernel.tolist() if isinstance(kernel, Tensor) else kernel
        self.downsampler = Downsampler(kernel, scale, ridge)
        made = isinstance(generator, nn.Module)
        if noise_channels and not made:
            generator = {
                **({"name": generator} if isinstance(generator, str) else generator),
                "noise_channels": noise_channels,
            }
        self.generator = generator if made else GENERATORS.build(generator, scale)
        self.noise_channels = getattr(self.generator, "noise_channels", noise_channels)
        self.generator.to(memory_format=torch.channels_last)
        self.consistency = CONSISTENCIES.build(consistency, self.downsampler)
        self.objective = OBJECTIVES.build(objective)
        described = not any(isinstance(x, nn.Module) for x in (generator, *consistency.values(), *objective.values()))
        self.config = None if not described else {
            "method": type(self).__name__, "scale": scale, "kernel": kernel, "ridge": float(ridge),
            "generator": {"name": generator} if isinstance(generator, str) else generator,
            "consistency": consistency, "objective": objective,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict, **training) -> "SuperResolver":
        """The method that a config.json describes, with untrained weights.

        Raises:
            ValueError: unknown keys, an unknown method or part, wrong types, absurd sizes.
        """
        config = dict(config)
        method = config.pop("method", None)
        if method not in METHODS:
            raise ValueError(f"method: {method!r} is not one of {', '.join(METHODS)}")
        known = {"scale": int, "kernel": (str, list), "ridge": (int, float), "generator": (str, dict),
                 "consistency": dict, "objective": dict}  # fmt: skip
        for key, value in config.items():
            if key not in known:
                raise ValueError(f"unknown key {key!r}; known are method, {', '.join(known)}")
            if not isinstance(value, known[key]) or isinstance(value, bool):
                raise ValueError(f"{key} is {value!r}, of the wrong type")
        if not 2 <= config.get("scale", 4) <= 16:
            raise ValueError(f"scale is {config['scale']}, expected 2 to 16")
        return METHODS[method](**config, **training)

    def forward(self, lr: Tensor, seed: int = 0) -> Tensor:
        """Upscale; averaged weights in evaluation mode. Nothing is clamped: ŷ may leave [0, 1].

        Where the generator takes noise, it is new noise in training and that of ``seed`` otherwise.
        """
        network = self.generator if self.training else self.inference_generator
        inputs = [lr.contiguous(memory_format=torch.channels_last)]
        if self.noise_channels:
            shape, dice = (len(lr), self.noise_channels, *lr.shape[-2:]), None
            if not self.training:  # on the CPU, so that a seed says the same everywhere
                dice = torch.Generator().manual_seed(seed)
            inputs.append(torch.randn(shape, generator=dice).to(inputs[0]))
        return self.consistency(network(*inputs).contiguous(), lr)

    @property
    def exact(self) -> bool:
        """Whether outputs promise to downsample to the input (up to float rounding)."""
        return self.consistency.exact

    @property
    def promise(self) -> str:
        """What a user may expect of the output, in a sentence: whether consistency is exact, approximate or none."""
        return self.consistency.promise

    def see_through(self, kernel=None, noise_level: float = 0.0, ridge: float | None = None) -> "SuperResolver":
        """This model for inputs of another blur, or noisy ones: ``model.see_through("gaussian:1.2", noise_level=5)``.

        See :func:`sr_zoo.degradation.see_through`.
        """
        from sr_zoo.degradation import see_through

        return see_through(self, kernel, noise_level, ridge)

    def self_ensemble(self) -> "SuperResolver":
        """This model with the mean of eight flips and rotations before the projection, see
        :func:`sr_zoo.ensemble.self_ensemble`."""
        from sr_zoo.ensemble import self_ensemble

        return self_ensemble(self)

    def with_parts(self, generator=None, consistency=None, config: dict | None = None) -> "SuperResolver":
        """A model for inference that shares everything with this one but the parts that are given.

        Args:
            generator: a module; the (averaged) one of this model if None.
            consistency: a :class:`~sr_zoo.consistency.Consistency`, whose operator becomes the model's.
            config: what describes it, if anything does.
        """
        twin = copy.copy(self)
        twin._modules = dict(self._modules)  # which a copy still shares
        twin.generator = self.inference_generator if generator is None else generator
        twin.consistency = self.consistency if consistency is None else consistency
        twin.ema, twin.folder, twin.config, twin.downsampler = None, None, config, twin.consistency.downsampler
        return twin.eval()

    @property
    def inference_generator(self) -> nn.Module:
        """The network whose weights a checkpoint folder holds."""
        return self.generator if self.ema is None else self.ema.module

    def push_to_hub(self, repo: str, checkpoint=None, **options) -> str:
        """Publish the checkpoint folder of this model: ``sr_zoo.load("runs/mine").push_to_hub("me/mine")``.

        Args:
            repo: ``owner/name``.
            checkpoint: the folder, with results, recipe and card; the one that it was loaded from if None.
            options: ``private``, ``revision``, ``create_pr``, see :func:`sr_zoo.push`.

        Returns:
            The address of the commit, or of the pull request.

        Raises:
            CheckpointError: the folder is incomplete or holds other weights than these, no access, no connection.
        """
        from sr_zoo.publish import push_model

        return push_model(self, repo, checkpoint, **options)

    def degrade(self, hr: Tensor) -> Tensor:
        """The LR picture as a file would hold it: A hr, rounded to 8 bits and clipped, back in [0, 1]."""
        return metrics.quantize(self.downsampler.A(hr)) / 255

    def validation_step(self, batch: dict, batch_index: int) -> None:
        self._evaluate(batch, "val", batch_index)

    def test_step(self, batch: dict, batch_index: int) -> None:
        self._evaluate(batch, "test", batch_index)

    def _evaluate(self, batch: dict, stage: str, batch_index: int) -> None:
        """Whole pictures by the rules of the benchmark: 8-bit LR in, Y-PSNR of the 8-bit SR out; and the prior's loss on HR."""
        hr = batch["hr"]
        hr = hr[..., : hr.shape[-2] // self.scale * self.scale, : hr.shape[-1] // self.scale * self.scale]
        lr = self.degrade(hr.float() / 255)
        sr = self(lr)
        saved = metrics.quantize(sr)
        figures = {
            "psnr": metrics.psnr_y(saved, hr, self.scale),
            "high_frequency": metrics.high_frequency_power(saved) / metrics.high_frequency_power(hr).clamp(min=1e-6),
            "lr_psnr": metrics.lr_psnr(sr, lr, self.downsampler),
        }
        if not self.objective.needs_samples:
            with torch.random.fork_rng(devices=[]):  # the same noise for a picture each time
                torch.manual_seed(batch_index)
                loss = self.objective.fit(None, hr.float() / 255)
            figures |= {} if loss is None else {"prior": loss}
        for name, value in figures.items():
            self.log(f"{stage}/{name}", value.mean(), prog_bar=True, batch_size=len(hr))


class MSE(SuperResolver):
    """Regression without consistency: A⁺x plus whatever the network adds."""

    parts = ("free", "regression")


class AffMSE(SuperResolver):
    """Regression on the affine subspace {y : A y = x} (paper, section 3.1)."""

    parts = ("affine", "regression")


class SoftGAN(SuperResolver):
    """A discriminator's pull, consistency by a penalty only."""

    parts = ("soft", "adversarial")


class AffGAN(SuperResolver):
    """A discriminator's pull on the affine subspace."""

    parts = ("affine", "adversarial")


class AffDAE(SuperResolver):
    """A denoiser's pull on the affine subspace; the paper calls it AffDG."""

    parts = ("affine", "denoising")


class AffLL(SuperResolver):
    """The pull of a density that was trained before, on the affine subspace."""

    parts = ("affine", "likelihood")


METHODS = {c.__name__: c for c in (MSE, AffMSE, SoftGAN, AffGAN, AffDAE, AffLL)}
