"""A checkpoint folder: config.json, model.safetensors and, where the objective has a network of its own, prior.safetensors.

Reading, validating and writing one, wherever it lies; ``hub.py`` finds it by its name.
"""

import json
import re
from pathlib import Path

from sr_zoo.errors import UserError, one_line
from sr_zoo.files import whole

__all__ = ["CONFIG", "FOREIGN", "PRIOR", "WEIGHTS", "CheckpointError", "read_config", "restored", "save", "untrained"]

MAX_CONFIG_BYTES = 1 << 22  # measured kernels of eight fine-tunings, the largest that are drawn
CONFIG, WEIGHTS, PRIOR = "config.json", "model.safetensors", "prior.safetensors"
FOREIGN = (".pth", ".pt", ".ckpt", ".safetensors")  # files of weights of networks from elsewhere


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, not one of ours or not to be had; the message names the file or repository."""


def restored(folder: Path, **training):
    """The model of a folder with its weights, in evaluation mode; ``training`` as in :func:`sr_zoo.load`.

    Raises:
        CheckpointError: a file that is missing or damaged, a config or weights that do not fit.
    """
    model = untrained(folder, **training)
    _restore(model.generator, folder / WEIGHTS)
    if (folder / PRIOR).exists():
        _restore(model.objective, folder / PRIOR)
    model.folder = folder
    return model.eval()


def untrained(folder: Path, **training):
    """The model of a folder's config.json, validated, with random weights: no file of weights is read.

    Raises:
        CheckpointError: a config that is missing, no config, or that makes no sense.
    """
    config = read_config(folder)
    from sr_zoo.methods import SuperResolver

    try:
        return SuperResolver.from_config(_fetching_nothing(config), **training)
    except (OverflowError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {one_line(error)}") from None


def _fetching_nothing(config: dict) -> dict:
    """The same without parts that begin with published weights: theirs are in the folder."""
    return {k: False if k == "pretrained" else _fetching_nothing(v) if isinstance(v, dict) else v for k, v in config.items()}


def read_config(folder: Path) -> dict:
    """config.json as a dictionary, not yet validated beyond being one."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes, not a config")
        config = json.loads(path.read_text())
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; a checkpoint folder holds config.json and model.safetensors") from None
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return config


def save(model, folder: str | Path, half: bool = False) -> Path:
    """Write config.json and model.safetensors of a model's (averaged) generator, and prior.safetensors of its objective's network
    where there is one; each file appears whole or not at all. A generator with branches that fold is written folded.

    Args:
        half: weights in float16, half as large: those of the zoo lose less than 0.001 dB by it. Loaded, they are float32 again.

    Raises:
        CheckpointError: a network was given as a module or something was put around it, so no config can name it.
    """
    from safetensors.torch import save_file

    if model.config is None:
        raise CheckpointError(
            "a network was given as a module, or the model was made of another in a way that no config can say; register the network "
            "by name, or save the one that it was made of"
        )
    folder, config, generator = Path(folder), model.config, model.inference_generator
    config, generator = {**config, "generator": generator.described(config["generator"])}, generator.folded()
    for name, module in ((WEIGHTS, generator), (PRIOR, model.objective)):
        # Counters of batch normalisation stay integers.
        state = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
        state = {k: _stored(v, half) if v.is_floating_point() else v for k, v in state.items()}
        if state:
            with whole(folder / name) as beside:
                save_file(state, beside, metadata={"format": "pt"})
    with whole(folder / CONFIG) as beside:
        beside.write_text(_written(config) + "\n")
    return folder


def _written(config: dict) -> str:
    """As JSON; a row of numbers, as in a measured kernel, takes one line."""
    return re.sub(r"\[[\s\d.,eE+-]+\]", lambda row: f"[{' '.join(row[0][1:-1].split())}]", json.dumps(config, indent=2))


def _restore(module, weights: Path) -> None:
    """Load a file of weights into the module whose state it is, strictly."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such file; a checkpoint folder holds config.json and model.safetensors")
    try:
        state = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{weights}: damaged or truncated ({one_line(error)})") from None
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(f"{weights}: does not fit the network in config.json ({first[:200]})") from None
    if not all(p.isfinite().all() for p in module.parameters()):
        raise CheckpointError(f"{weights}: holds weights that are not finite numbers")


def _stored(weights, half: bool):
    import torch

    # What float16 cannot hold stays as it is.
    return weights.half() if half and bool((weights.abs() < torch.finfo(torch.float16).max).all()) else weights.float()
