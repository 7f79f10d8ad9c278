"""Models by name: those that ship with the package, checkpoint folders, Hub repositories, files of weights from elsewhere.

``checkpoint.py`` reads a folder, which has the same files under the same names as a Hub repository; ``remote.py`` fetches one and
``publish.py`` fills it.
"""

import json
import os
from collections import Counter
from pathlib import Path

from sr_zoo.checkpoint import CONFIG, FOREIGN, PRIOR, WEIGHTS, CheckpointError, read_config, restored, save, untrained
from sr_zoo.files import expanded
from sr_zoo.registry import suggestion

__all__ = [
    "CONFIG", "FOREIGN", "PRIOR", "WEIGHTS", "CheckpointError", "checkpoint_folder", "foreign_weights", "list_models", "load",
    "model_names", "read_config", "save", "untrained",
]  # fmt: skip


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
        return restored(folder, **training)
    except CheckpointError as error:
        # By the name that the user gave: in the cache of the Hub, files lie in folders named by hashes.
        raise CheckpointError(f"{str(source).rstrip('/')}{str(error).removeprefix(str(folder))}") from None


def foreign_weights(source: str | Path) -> Path | None:
    """The file that ``source`` names where it is one of weights from elsewhere, by its suffix; None for everything else."""
    path = expanded(source)
    return path if path.suffix.lower() in FOREIGN and path.is_file() else None


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


def model_names(sources: list[str | Path]) -> list[str]:
    """What to call models in a table: the last part of each path or repository; all of it where two would be called the same."""
    names = [_last_part(source) for source in sources]
    alike = {name for name, count in Counter(names).items() if count > 1}
    return [str(source) if name in alike else name for name, source in zip(names, sources)]


def _last_part(source: str | Path) -> str:
    folder = expanded(source)
    return Path(os.path.abspath(folder) if folder.is_dir() else source).name or str(source)


def _shipped() -> dict[str, Path]:
    """Name → folder; in a checkout the folder beside the package, installed the one within it."""
    here = Path(__file__).resolve().parent
    for root in (here / "checkpoints", here.parent / "checkpoints"):
        if root.is_dir():
            return {p.name: p for p in root.iterdir() if (p / CONFIG).is_file()}
    return {}
