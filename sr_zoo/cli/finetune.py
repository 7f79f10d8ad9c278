"""``sr-zoo finetune``."""

import sys

from sr_zoo.cli._common import positive

__all__ = ["add"]


def add(commands) -> None:
    command = commands.add_parser("finetune", help="go on training a pretrained model on your own photos")
    command.add_argument("model", metavar="MODEL", help="name or checkpoint folder to start from")
    command.add_argument("photos", metavar="PHOTOS", help="folder of pictures, searched recursively")
    command.add_argument("-o", "--output", required=True, metavar="DIR", help="checkpoint folder to write")
    command.add_argument("--steps", type=positive, default=1000, metavar="N", help="batches (default: %(default)s)")
    command.add_argument(
        "--val", metavar="PHOTOS", help="folder of held-out pictures; a tenth of PHOTOS is held out otherwise"
    )
    command.add_argument(
        "--kernel", help="if not the model's: bicubic, box, gaussian:SIGMA, or a picture file of a measured one"
    )
    command.add_argument("--ridge", type=float, metavar="E", help="for kernels that cannot be inverted without")
    command.add_argument("--scale", type=int, metavar="S", help="the model's own; it cannot change")
    command.add_argument(
        "--learning-rate", type=float, metavar="R", help="peak (default: of the model's own training, at most 5e-4)"
    )
    command.add_argument("--batch-size", type=positive, metavar="N", help="crops (default: as many as have 131,072 pixels)")
    command.add_argument("--crop-size", type=positive, metavar="N", help="pixels (default: 128, less if pictures are small)")
    command.add_argument(
        "--augment", default="turns", choices=("turns", "mirror", "none"), help="flips and rotations (default: %(default)s)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of the crops (default: %(default)s)")
    command.add_argument("--logger", default="csv", choices=("csv", "wandb"), help="default: %(default)s")
    command.add_argument("--artifact", action="store_true", help="give the weights to wandb, too")
    command.add_argument("--again", action="store_true", help="start anew where DIR holds a fine-tuning")
    command.set_defaults(run=_finetune)


def _finetune(options) -> int:
    from sr_zoo.finetune import finetune

    arguments = {name: value for name, value in vars(options).items() if name != "run"}
    record = finetune(**arguments, report=lambda line: print(line, file=sys.stderr, flush=True))
    before, after = record["before"]["psnr"], record["after"]["psnr"]
    note = {
        "best": "",
        "start": "; nothing better was found, so these are the weights it started from",
        "last": "; these are the last weights, whatever the PSNR",
    }
    count = len(record["held_out"])
    print(f"{options.output}: {before:.2f} → {after:.2f} dB on {count} held-out pictures{note[record['kept']]}")
    return 0
