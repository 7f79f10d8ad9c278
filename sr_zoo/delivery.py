"""What becomes of an upscaled picture on its way into a file: its size, its format, and the proof where that changes its samples."""

import dataclasses
from collections.abc import Callable

from sr_zoo.engine import Upscaled, measure
from sr_zoo.picture import Picture, losses, open_picture, save_picture
from sr_zoo.resize import plan_outscale, resize

__all__ = ["Delivery"]


@dataclasses.dataclass(frozen=True)
class Delivery:
    """How a picture is read, sized and saved.

    Attributes:
        outscale: factor of both sides, such as 3.3; after the network, MATLAB's bicubic makes up the difference.
        size: ``"3840x2160"``, ``"3840x"`` or ``"x2160"``, likewise; None of both for the network's own scale.
        model_for: ``scale`` → the model of a scale, where one is chosen for each picture by the size it is to have.
        quality: 1…100 for lossy WebP, AVIF and JPEG; lossless (JPEG: 95) if None.
        max_pixels: what a file may claim, see :func:`sr_zoo.picture.open_picture`.

    Raises:
        UserError: a factor or size that suits no picture.
    """

    outscale: float | None = None
    size: str | None = None
    model_for: Callable[[int], object] | None = None
    quality: int | None = None
    max_pixels: int | None = None

    def __post_init__(self):
        if self.outscale is not None or self.size is not None:
            self._planned((1, 1))  # what suits no picture is said before any is read

    def label(self, scale: int) -> str:
        """Of the names of what is saved: ``x4``, ``x3.3``, ``3840x2160``."""
        return self.size or f"x{scale if self.outscale is None else format(self.outscale, 'g')}"

    def read(self, path, frame: int | None) -> Picture:
        return open_picture(path, frame, self.max_pixels)

    def model(self, picture: Picture, model):
        """The one that reaches the size; ``model`` where none is chosen."""
        return model if self.model_for is None else self.model_for(self._planned(picture.size)[0])

    def sized(self, done: Upscaled, source: Picture) -> Picture:
        """The upscaled picture in the size that was asked for."""
        if self.outscale is None and self.size is None:
            return done.picture
        return resize(done.picture, *self._planned(source.size)[1])

    def save(self, path, picture: Picture, source: Picture, model) -> tuple[dict, tuple[str, ...]]:
        """Write it. Where the format changes samples, the figures are those of what is read from the file again.

        Returns:
            Figures that differ from those of the picture, and notes on what the file does not hold.
        """
        save_picture(path, picture, self.quality)
        lost = losses(path.suffix, picture, self.quality)
        if lost is None:
            return {}, ()
        if picture.size != (source.size[0] * model.scale, source.size[1] * model.scale):
            return {}, (lost,)
        saved = open_picture(path, max_pixels=2**62)
        try:
            samples, reproduced, psnr = measure(saved, source, model)
        except ValueError:  # of another kind, such as RGB for CMYK: then nothing is claimed, and the note says what was lost
            return {"samples": 0, "reproduced": 0.0, "lr_psnr_8bit": 0.0}, (lost,)
        return {"samples": samples, "reproduced": reproduced, "lr_psnr_8bit": psnr}, (lost,)

    def _planned(self, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        return plan_outscale(*size, self.outscale, self.size)
