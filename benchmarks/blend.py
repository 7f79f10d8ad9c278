"""Moves a generator along the line from where its training started, by ``python -m benchmarks.blend START TRAINED OUTPUT``.

Weights become start + share · (trained − start), those of the noise planes times ``--noise`` besides. A share between 0 and 1 trades
the detail of an adversarial training for PSNR (network interpolation: Wang et al. 2018, ESRGAN, section 3.4), a little above 1 the
other way round; less noise brings PSNR at little cost of detail. Both are to be chosen on validation pictures.
"""

import argparse

import torch

from sr_zoo.generators import start_from
from sr_zoo.hub import load, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("start", help="model or checkpoint folder that the training started from")
    parser.add_argument("trained", help="checkpoint folder")
    parser.add_argument("output", help="checkpoint folder to write")
    parser.add_argument("--share", type=float, default=1.0, help="of the way from start (0) to trained (1)")
    parser.add_argument("--noise", type=float, default=1.0, help="factor of the noise planes' weights")
    options = parser.parse_args()
    model, trained = load(options.trained), load(options.trained)
    start_from(model.generator, load(options.start).generator)
    with torch.no_grad():
        for mine, theirs in zip(model.generator.parameters(), trained.generator.parameters()):
            mine.lerp_(theirs, options.share)
        model.generator.head.weight[:, 3:] *= options.noise
    print(f"written: {save(model, options.output)}")


if __name__ == "__main__":
    main()
