"""Checkpoint folders: config.json, model.safetensors and, where the objective has a network of its own, prior.safetensors.

The same files under the same names as a Hub repository, which ``remote.py`` fetches and ``publish.py`` fills.
"""

import json
from pathlib import Path

from sr_zoo.errors import UserError, one_line
from sr_zoo.files import expanded, whole
from sr_zoo.registry import suggestion

__all__ = [
    "FOREIGN", "CheckpointError", "checkpoint_folder", "foreign_weights", "list_models", "load", "read_config", "save",
    "untrained",
]  # fmt: skip

MAX_CONFIG_BYTES = 1 << 20
CONFIG, WEIGHTS, PRIOR = "config.json", "model.safetensors", "prior.safetensors"
FOREIGN = (".pth", ".pt", ".ckpt", ".safetensors")  # files of weights of networks from elsewhere


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, not one of ours or not to be had; the message names the file or repository."""


def load(source: str | Path = "affmse-x4", revision: str | None = None, **training):
    """A pretrained model, ready to upscale: ``sr_zoo.load("affmse-x4")``, ``sr_zoo.load("someone/affgan-x4-anime")``.

    Args:
        source: the name of a model that ships with the package (see :func:`list_models`), a checkpoint folder, or a Hub
            repository: ``owner/name``, also as ``hf-hub:owner/name`` and with ``@revision`` behind it; or a file of weights of
            a network from elsewhere, see :func:`sr_zoo.foreign.load_foreign`.
        revision: branch, tag, commit or ``refs/pr/N`` of a Hub repository; its main branch if None.
        **training: how it shall be trained on, such as ``learning_rate``: arguments of
            :class:`~sr_zoo.methods.SuperResolver` that its config.json does not hold.

    Returns:
        A :class:`~sr_zoo.methods.SuperResolver` in evaluation mode. What was fetched once also loads without a network.

    Raises:
        CheckpointError: unknown name, missing or damaged file, a config or weights that do not fit, a repository that cannot
            be reached or has no weights as safetensors.
    """
    if weights := foreign_weights(source):
        from sr_zoo.foreign import load_foreign

        if revision is not None or training:
            raise CheckpointError(f"{source}: a network from elsewhere has no revision here, and cannot be trained on")
        return load_foreign(weights)
    folder = checkpoint_folder(source, revision)
    try:
        model = untrained(folder, **training)
        _restore(model.generator, folder / WEIGHTS)
        if (folder / PRIOR).exists():
            _restore(model.objective, folder / PRIOR)
    except CheckpointError as error:
        # By the name that the user gave: in the cache of the Hub, files lie in folders named by hashes.
        raise CheckpointError(f"{str(source).rstrip('/')}{str(error).removeprefix(str(folder))}") from None
    model.folder = folder
    return model.eval()


def foreign_weights(source: str | Path) -> Path | None:
    """The file that ``source`` names where it is one of weights from elsewhere, by its suffix; None for everything else."""
    path = expanded(source)
    return path if path.suffix.lower() in FOREIGN and path.is_file() else None


def untrained(folder: Path, **training):
    """The model of a folder's config.json, validated, with random weights: no file of weights is read.

    Raises:
        CheckpointError: a config that is missing, no config, or that makes no sense.
    """
    config = read_config(folder)
    from sr_zoo.methods import SuperResolver

    try:
        return SuperResolver.from_config(config, **training)
    except (OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {one_line(error)}") from None


def save(model, folder: str | Path, half: bool = False) -> Path:
    """Write config.json and model.safetensors of a model's (averaged) generator, and prior.safetensors of its objective's network
    where there is one; each file appears whole or not at all. A generator with branches that fold is written folded.

    Args:
        half: weights in float16, half as large: those of the zoo lose less than 0.001 dB by it. Loaded, they are float32 again.

    Raises:
        CheckpointError: the generator was given as a module, so no config can name it.
    """
    from safetensors.torch import save_file

    if model.config is None:
        raise CheckpointError("the generator was given as a module; register it by name to save it as a checkpoint")
    folder, config, generator = Path(folder), model.config, model.inference_generator
    if generator.folds_to:
        config = {**config, "generator": {**config["generator"], "name": generator.folds_to}}
    generator = generator.folded()
    for name, module in ((WEIGHTS, generator), (PRIOR, model.objective)):
        # Counters of batch normalisation stay integers.
        state = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
        state = {k: _stored(v, half) if v.is_floating_point() else v for k, v in state.items()}
        if state:
            with whole(folder / name) as beside:
                save_file(state, beside, metadata={"format": "pt"})
    with whole(folder / CONFIG) as beside:
        beside.write_text(json.dumps(config, indent=2) + "\n")
    return folder


def _stored(weights, half: bool):
    import torch

    # What float16 cannot hold stays as it is.
    return weights.half() if half and bool((weights.abs() < torch.finfo(torch.float16).max).all()) else weights.float()


def checkpoint_folder(source: str | Path, revision: str | None = None) -> Path:
    """The folder of a shipped model's name, ``source`` itself where it is a folder, or that in the cache of a Hub repository, of
    which config.json and the weights have then been fetched.

    Raises:
        CheckpointError: none of these, and the nearest name is suggested; or a repository that cannot be fetched.
    """
    from sr_zoo.remote import download, hub_id

    shipped, folder = _shipped(), expanded(source)
    here = shipped.get(str(source)) or (folder if folder.is_dir() else None)
    if here is not None and revision is not None:
        raise CheckpointError(f"{source}: is on this machine; only a Hub repository has a revision ({revision})")
    if here is not None:
        return here
    if folder.exists():
        raise CheckpointError(f"{source}: is a file, expected a checkpoint folder")
    if folder.suffix.lower() in FOREIGN:
        raise CheckpointError(f"{source}: no such file")
    if hub_id(source) is None:
        raise CheckpointError(f"{source}: no such model or folder; {suggestion(str(source), shipped)}")
    return download(source, revision)


def read_config(folder: Path) -> dict:
    """config.json as a dictionary, not yet validated beyond being one."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes, not a config")
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; a checkpoint folder holds config.json and model.safetensors") from None
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return config


def list_models() -> list[dict]:
    """The models that ship with the package: name, config entries and benchmark rows of each."""
    rows = []
    for name, folder in sorted(_shipped().items()):
        results = folder / "results.json"
        config = read_config(folder)
        rows.append(
            {"name": name, "method": config.get("method"), "scale": config.get("scale"), "kernel": config.get("kernel"),
             "results": json.loads(results.read_text()) if results.is_file() else []}
        )  # fmt: skip
    return rows


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


def _shipped() -> dict[str, Path]:
    """Name → folder; in a checkout the folder beside the package, installed the one within it."""
    here = Path(__file__).resolve().parent
    for root in (here / "checkpoints", here.parent / "checkpoints"):
        if root.is_dir():
            return {p.name: p for p in root.iterdir() if (p / CONFIG).is_file()}
    return {}
