"""Discriminators: networks that tell real pictures from generated ones, by name."""

from torch import Tensor, nn

from sr_zoo.registry import Registry

__all__ = ["DISCRIMINATORS", "Strided", "Timm"]

DISCRIMINATORS = Registry("discriminator")


@DISCRIMINATORS.register("strided")
class Strided(nn.Module):
    """The paper's strided network: pairs of 3×3 convolutions, the second with stride 2, twice as wide after each pair.

    Pictures ``(batch, colours, h, w)`` in about [0, 1] → logits ``(batch, 1, h/2ⁿ, w/2ⁿ)``, each for the patch that it sees, so
    that crops of any size can be judged. Leaky ReLU keeps a gradient everywhere.

    Args:
        width: channels of the first pair; the paper has 128 for faces, 32 for grass.
        pairs: number of pairs, each halving the resolution; the paper has 4.
        colours: of the picture.
        batch_norm: normalise by batch, as the paper does. Off by default: it ties the pictures of a batch together, so that
            D's answer to one depends on the others, and its figures differ between D's step and the generator's.
    """

    def __init__(self, width: int = 32, pairs: int = 4, colours: int = 3, batch_norm: bool = False):
        super().__init__()
        if not (1 <= width <= 1024 and 1 <= pairs <= 6 and 1 <= colours <= 64 and width * 2 ** (pairs - 1) <= 4096):
            raise ValueError(
                f"discriminator 'strided': width {width}, pairs {pairs} or colours {colours} is out of range "
                "(1…1024, 1…6, 1…64, width · 2^(pairs - 1) up to 4096)"
            )
        layers, inputs = [], colours
        for i in range(pairs):
            outputs = width * 2**i
            for stride in (1, 2):
                layers.append(nn.Conv2d(inputs, outputs, 3, stride, 1))
                if batch_norm and len(layers) > 1:  # not on what sees the picture itself: its noise would be scaled away
                    layers.append(nn.BatchNorm2d(outputs))
                layers.append(nn.LeakyReLU(0.2))
                inputs = outputs
        self.layers = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 1))

    def forward(self, picture: Tensor) -> Tensor:
        return self.layers(2 * picture - 1)


@DISCRIMINATORS.register("timm")
class Timm(nn.Module):
    """Any image classifier of timm by name, with one logit for a picture: ``{"name": "timm", "backbone": "convnext_atto"}``.

    Args:
        backbone: a name that ``timm.list_models()`` knows.
        pretrained: start from its published weights, which are downloaded; from random ones otherwise.
    """

    def __init__(self, backbone: str = "resnet18", pretrained: bool = False):
        super().__init__()
        import timm  # heavy, and only this one needs it

        if not timm.is_model(backbone):
            raise ValueError(f"discriminator 'timm': {backbone!r} is not a model that timm {timm.__version__} knows")
        self.network = timm.create_model(backbone, pretrained=pretrained, num_classes=1)

    def forward(self, picture: Tensor) -> Tensor:
        return self.network(2 * picture - 1)
