"""Takes out of a network what the projection removes anyway: ``python -m benchmarks.refit FOLDER PHOTOS OUTPUT``.

Behind Π a generator may say anything along what Π removes. A training that let it drift there leaves raw pictures hundreds of times
as large as what counts in them, of which bf16 keeps nothing. Here the last layer is fitted anew, by least squares over crops of
PHOTOS, to the part (I − A⁺A) ỹ of the old network's raw picture that survives, computed in float32. The rest of the network
stays. A single 3×3 convolution cannot follow that part wholly, so a short training has to come after.
"""

import argparse

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_zoo.crops import Crops
from sr_zoo.data import PictureCache
from sr_zoo.generators import Network
from sr_zoo.hub import load, save
from sr_zoo.operators import Downsampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="model or checkpoint folder whose last layer is fitted")
    parser.add_argument("photos", help="folder of training pictures")
    parser.add_argument("output", help="checkpoint folder to write")
    parser.add_argument("--crops", type=int, default=400, help="of 192×192 pixels (default: %(default)s)")
    options = parser.parse_args()
    model = load(options.folder)
    crops = Crops(PictureCache(options.photos, "~/.cache/sr_zoo/pictures", 192), 192, "picture", seed=7)
    pictures = (model.degrade(crops[i]["hr"][None].float() / 255) for i in range(options.crops))
    share = refit(model.generator, model.downsampler, pictures)
    print(f"written: {save(model, options.output)}; {100 * share:.1f} % of what survives the projection is not reached")


@torch.no_grad()
def refit(network: Network, downsampler: Downsampler, pictures) -> float:
    """Fit ``network.tail`` anew, in place.

    Args:
        pictures: LR pictures ``(batch, 3, h, w)`` in [0, 1].

    Returns:
        Share of the power of (I − A⁺A) ỹ that the new layer does not reach.
    """
    rows = network.tail.weight[0].numel() + 1
    gram, mixed = (torch.zeros(rows, n, dtype=torch.float64) for n in (rows, len(network.tail.bias)))
    power = 0.0
    for lr in pictures:
        seen, kept = _inputs_and_targets(network, downsampler, lr)
        gram += seen.T @ seen
        mixed += seen.T @ kept
        power += float(kept.square().sum())
    # Hardly a ridge: only so that features which are always alike do no harm.
    fitted = torch.linalg.solve(gram + 1e-9 * gram.diagonal().mean() * torch.eye(rows, dtype=gram.dtype), mixed)
    network.tail.weight.copy_(fitted[:-1].T.view_as(network.tail.weight))
    network.tail.bias.copy_(fitted[-1])
    return max(0.0, 1 - float((fitted * mixed).sum()) / power)


def _inputs_and_targets(network: Network, downsampler: Downsampler, lr: Tensor) -> tuple[Tensor, Tensor]:
    """What the last layer sees around each LR pixel, with a one for its bias; and what of its answers survives the projection."""
    features = []
    handle = network.tail.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    raw = network(lr).double()
    handle.remove()
    kept = raw - downsampler.pinv(downsampler.A(raw))
    seen = F.unfold(features[0].double(), 3, padding=1).transpose(1, 2).flatten(0, 1)
    targets = F.pixel_unshuffle(kept, network.scale).flatten(2).transpose(1, 2).flatten(0, 1)
    return torch.cat([seen, torch.ones_like(seen[:, :1])], 1), targets


if __name__ == "__main__":
    main()
