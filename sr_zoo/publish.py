"""Publishing checkpoints on the Hugging Face Hub: what a checkpoint must say of itself, and one commit for all of it."""

import json
import re
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import yaml

from sr_zoo.card import DATA_HEADING, addressed, model_card
from sr_zoo.checkpoint import PRIOR, CheckpointError
from sr_zoo.errors import one_line
from sr_zoo.files import whole
from sr_zoo.hub import checkpoint_folder, list_models, load
from sr_zoo.remote import FILES, SERVER_ERRORS, client, explained, hub_id, patiently

__all__ = ["push", "push_all", "push_model"]

BUSY = (429, *SERVER_ERRORS)


def push(
    checkpoint: str | Path,
    repo: str,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    *,
    licence: str | None = None,
    training_data: str | None = None,
) -> str:
    """Publish a checkpoint folder as a Hub repository, in one commit: everything, or nothing.

    Args:
        checkpoint: name of a shipped model, or a folder with config.json, model.safetensors, results.json, recipe.yaml and a
            README.md that names a licence and has a section on the training data (see :func:`sr_zoo.card.model_card`).
        repo: ``owner/name``; made where it does not exist.
        private: make it private; refused where it exists and is not.
        revision: branch to push to, made where it does not exist, or ``refs/pr/N``; the main branch if None.
        create_pr: propose the commit as a pull request on an existing repository instead.
        licence: of the weights, as the Hub spells it (``cc-by-nc-4.0``); with ``training_data``, README.md is written into the
            folder from its config, recipe and results. One that is there already is not touched but an error.
        training_data: what they were trained on and under which terms, a sentence or a paragraph.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        CheckpointError: something is missing in the folder, no access, no connection. The repository is then as it was.
    """
    if (licence is None) != (training_data is None):
        raise CheckpointError(f"{checkpoint}: not pushed; a licence and the training data make a card together")
    if hub_id(repo) != (repo, None):
        raise CheckpointError(f"{repo}: not a Hub repository; expected owner/name")
    if create_pr and revision not in (None, "main"):
        raise CheckpointError(f"{repo}: a pull request starts from the main branch, not from {revision}")
    if licence is not None:
        _write_card(_local(checkpoint), licence, training_data)
    folder = _complete(checkpoint)
    api = client()
    with explained(repo, revision):
        if not create_pr:
            _ask(lambda: api.create_repo(repo, private=private or None, exist_ok=True))
        if private and not _ask(lambda: api.model_info(repo)).private:
            raise CheckpointError(f"{repo}: is public already; make it private in its settings, or push without --private")
        if revision is not None and revision != "main" and not revision.startswith("refs/"):
            _ask(lambda: api.create_branch(repo, branch=revision, exist_ok=True))
        # Made again, a commit that did arrive changes nothing; a pull request would be there twice, so it is asked for again
        # only where the Hub said no.
        codes = (429, 503) if create_pr else BUSY
        done = patiently(lambda: _commit(api, folder, repo, revision, create_pr), codes, lost=not create_pr)
    return done.pr_url or done.commit_url


def push_all(namespace: str, progress: Callable[[str], None] | None = None, **options) -> list[str]:
    """Publish every model that ships with the package as ``namespace/name``; all are checked before the first is pushed.

    Args:
        namespace: user or organisation.
        progress: called with a line of text after each.
        options: of :func:`push`.

    Returns:
        The addresses of the commits.

    Raises:
        CheckpointError: see :func:`push`; what was pushed before stays.
    """
    names = [row["name"] for row in list_models()]
    for name in names:
        _complete(name)
    done = []
    for name in names:
        done.append(push(name, f"{namespace}/{name}", **options))
        if progress is not None:
            progress(f"{name} → {done[-1]}")
    return done


def push_model(model, repo: str, checkpoint: str | Path | None = None, **options) -> str:
    """Publish the folder that a model was loaded from, or ``checkpoint``, if it holds these very weights.

    Raises:
        CheckpointError: see :func:`push`; or the model was changed since, so that the folder's results are not its own.
    """
    import torch

    checkpoint = model.folder if checkpoint is None else checkpoint
    if checkpoint is None:
        raise CheckpointError(
            f"{repo}: not pushed; this model comes from no folder: save and benchmark it, and name the folder"
        )
    kept = load(checkpoint)
    mine, theirs = model.inference_generator.state_dict(), kept.inference_generator.state_dict()
    same = mine.keys() == theirs.keys() and all(
        torch.equal(value.cpu().float(), theirs[k].float()) for k, value in mine.items()
    )
    if not same or model.config != kept.config:
        raise CheckpointError(
            f"{checkpoint}: not pushed; it is another model than this one: save and benchmark this one first"
        )
    return push(checkpoint, repo, **options)


def _ask(call: Callable):
    return patiently(call, BUSY)


def _commit(api, folder: Path, repo: str, revision: str | None, create_pr: bool):
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    head = api.model_info(repo, revision=revision)
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and any(fnmatch(p.name, pattern) for pattern in FILES)]
    added = [CommitOperationAdd(p.name, _content(p, repo)) for p in files]
    # What is left of an earlier model would be taken for a part of this one.
    left = {f.rfilename for f in head.siblings} - {p.name for p in files}
    deleted = [CommitOperationDelete(n) for n in sorted(left) if n == PRIOR or fnmatch(n, "recipe*.yaml")]
    # With its parent named, a commit that somebody else made meanwhile is not mixed with this one but an error.
    return api.create_commit(
        repo, added + deleted, commit_message=f"Publish {folder.name}", revision=revision, create_pr=create_pr,
        parent_commit=head.sha,
    )  # fmt: skip


def _content(path: Path, repo: str) -> bytes | str:
    return addressed(path.read_text(), repo).encode() if path.name == "README.md" else str(path)


def _local(checkpoint: str | Path) -> Path:
    if hub_id(checkpoint) is not None and not Path(checkpoint).exists():
        raise CheckpointError(f"{checkpoint}: no such folder; one that is on the Hub is pulled first")
    return checkpoint_folder(checkpoint).resolve()


def _complete(checkpoint: str | Path) -> Path:
    """The folder of a checkpoint that loads and says what a user must know.

    Raises:
        CheckpointError: one line with all that is missing.
    """
    folder = _local(checkpoint)
    load(folder)
    card, data = _card(folder / "README.md")
    missing = [
        text
        for text, there in {
            "results.json (sr-zoo benchmark FOLDER --output FOLDER)": _has_results(folder / "results.json"),
            "recipe.yaml (how it was trained)": (folder / "recipe.yaml").is_file(),
            "README.md (the model card; --licence and --training-data write one)": (folder / "README.md").is_file(),
            "a licence (license: in the metadata of README.md)": bool(data.get("license")),
            f"what it was trained on and under which terms (a section '{DATA_HEADING}' of README.md)": _section(card),
        }.items()
        if not there
    ]
    if missing:
        raise CheckpointError(f"{checkpoint}: not pushed; it lacks {', '.join(missing)}")
    return folder


def _write_card(folder: Path, licence: str, training: str) -> None:
    """README.md of a folder that has what it is made from; without that, nothing, and what is lacking is said later."""
    path, card = folder / "README.md", None
    if (folder / "recipe.yaml").is_file() and _has_results(folder / "results.json"):
        try:
            card = model_card(folder, training, licence, _origin(folder))
        except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            raise CheckpointError(f"{folder}: not pushed; no card can be made of it ({one_line(error)})") from None
    if not path.exists():
        if card is not None:
            with whole(path) as beside:
                beside.write_text(card)
    elif path.read_text(errors="replace") != card:  # the same is there where a push did not come through
        raise CheckpointError(
            f"{path}: not pushed; it is there already: take it away to have one written, or leave out the licence and the training "
            "data"
        )


def _origin(folder: Path) -> str:
    """What a fine-tuned folder started from: that was trained on something, too, and has terms of its own."""
    path = folder / "finetune.json"
    if not path.is_file():
        return ""
    model = json.loads(path.read_text())["model"]
    return f"Fine-tuned from *{model}*: what those weights were trained on, and their terms, bear on these, too."


def _card(path: Path) -> tuple[str, dict]:
    """Text and metadata of a model card, empty where there are none."""
    try:
        text = path.read_text()
        head = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
        data = yaml.safe_load(head[1]) if head else None
    except FileNotFoundError:
        return "", {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: not pushed; cannot be read ({' '.join(str(error).split())})") from None
    return text, data if isinstance(data, dict) else {}


def _section(card: str) -> bool:
    match = re.search(rf"^{DATA_HEADING}\n(.*?)(?=^#|\Z)", card, re.DOTALL | re.MULTILINE)
    return bool(match and match[1].strip())


def _has_results(path: Path) -> bool:
    try:
        rows = json.loads(path.read_text())
        return bool(rows) and all({"set", "psnr", "ssim"} <= row.keys() for row in rows)
    except (OSError, ValueError, AttributeError, TypeError):
        return False
