"""Checkpoints on the Hugging Face Hub: fetching them, and what is said when that fails.

A repository is a checkpoint folder. Its config.json comes first and is validated before a weight is asked for; weights come as
safetensors, of the commit that config.json was of; and no file is used whose hash is not the one that the Hub names.
"""

import contextlib
import fnmatch
import functools
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sr_zoo.checkpoint import CONFIG, PRIOR, WEIGHTS, CheckpointError, restored, untrained
from sr_zoo.errors import one_line
from sr_zoo.files import expanded, whole_folder

__all__ = ["FILES", "client", "download", "explained", "hub_id", "patiently", "pull"]

# What a checkpoint consists of, here and there; nothing else is fetched or published.
FILES = (CONFIG, WEIGHTS, PRIOR, "recipe*.yaml", "results.json", "README.md", "*.png")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# The client itself tries again where it asks for a file's metadata or uploads, but not on every error and request.
WAITS, LONGEST_WAIT = (1, 4), 60
SERVER_ERRORS = (500, 502, 503, 504)
_ID = re.compile(r"(?:hf-hub:)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*)(?:@(.+))?")


def pull(source: str, folder: str | Path | None = None, revision: str | None = None) -> Path:
    """Fetch a whole checkpoint from the Hub: weights, config, recipe, results and card.

    Args:
        source: ``owner/name``, also as ``hf-hub:owner/name`` and with ``@revision`` behind it.
        folder: where to; it must not exist, and appears whole or not at all. The repository's name, here, if None.
        revision: branch, tag, commit or ``refs/pr/N``; the main branch if None.

    Returns:
        The folder.

    Raises:
        CheckpointError: no such repository or revision, no access, no connection, no room, or no valid checkpoint.
    """
    repo, revision = _parsed(source, revision)
    target = expanded(repo.split("/")[1] if folder is None else folder)
    try:
        with whole_folder(target) as beside:
            commit, api = download(repo, revision).name, client()
            for name in _names(api, repo, commit):
                if "/" not in name and any(fnmatch.fnmatch(name, pattern) for pattern in FILES):
                    shutil.copyfile(_fetched(api, repo, name, commit), beside / name)
            _named(repo, beside, restored)
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written ({error.strerror or error})") from None
    return target


def download(source: str | Path, revision: str | None = None) -> Path:
    """The cached folder of a repository's commit, with what :func:`sr_zoo.load` needs of it: fetched, or there already.

    Raises:
        CheckpointError: see :func:`pull`.
    """
    repo, revision = _parsed(source, revision)
    api = client()
    config = _fetched(api, repo, CONFIG, revision or "main")
    if config is None:
        raise _lacks(api, repo, CONFIG, revision)
    folder = config.parent
    try:
        model = _named(repo, folder, untrained)
    except CheckpointError as error:
        raise (_lacks(api, repo, CONFIG, folder.name) if _pickles_only(api, repo, folder.name) else error) from None
    if _fetched(api, repo, WEIGHTS, folder.name) is None:
        raise _lacks(api, repo, WEIGHTS, folder.name)
    if model.objective.state_dict():
        _fetched(api, repo, PRIOR, folder.name)
    return folder


def hub_id(source: str | Path) -> tuple[str, str | None] | None:
    """``[hf-hub:]owner/name[@revision]`` as (``owner/name``, revision), None where it is something else."""
    match = _ID.fullmatch(str(source))
    return match and (match[1], match[2])


def client():
    """The Hub's client, as the environment sets it (HF_TOKEN, HF_ENDPOINT, HF_HOME, …)."""
    from huggingface_hub import HfApi

    from sr_zoo import __version__

    return HfApi(library_name="sr_zoo", library_version=__version__)


def patiently(call: Callable, codes: tuple[int, ...] = SERVER_ERRORS, lost: bool = True):
    """The result of a call to the Hub; it is made again a few times where that may help.

    Args:
        call: takes nothing.
        codes: HTTP codes of answers after which it does.
        lost: whether it does after a connection that broke, too: then nobody knows what the server has done.
    """
    for wait in (*WAITS, None):
        try:
            return call()
        except _errors() as error:
            asked = _retry_after(error)
            if wait is None or asked > LONGEST_WAIT or not _passing(error, codes, lost):
                raise
        time.sleep(max(wait, asked))


@contextlib.contextmanager
def explained(repo: str, revision: str | None = None) -> Iterator[None]:
    """Whatever the Hub's client raises within becomes a CheckpointError of one line that says what to do."""
    try:
        yield
    except CheckpointError:
        raise
    except (RuntimeError, ValueError, *_errors()) as error:  # the first of an upload, the second of a name
        raise CheckpointError(f"{repo}: {_reason(error, revision)}") from None


def _parsed(source: str | Path, revision: str | None) -> tuple[str, str | None]:
    parsed = hub_id(source)
    if parsed is None:
        raise CheckpointError(f"{source}: not a Hub repository; expected owner/name")
    repo, pinned = parsed
    if pinned is not None and revision not in (None, pinned):
        raise CheckpointError(f"{source}: names another revision than {revision}")
    return repo, pinned or revision


def _named(repo: str, folder: Path, call: Callable):
    """``call(folder)``, its errors naming the repository, not the folder."""
    try:
        return call(folder)
    except CheckpointError as error:
        raise CheckpointError(f"{repo}{str(error).removeprefix(str(folder))}") from None


def _fetched(api, repo: str, name: str, revision: str) -> Path | None:
    """A file of a repository in the cache, its bytes checked; None where the repository has no such file."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def fetch() -> Path:
        path = Path(api.hf_hub_download(repo, name, revision=revision))
        expected = _hash_of(api, repo, name, path)
        if expected is not None and _hash(path, len(expected)) != expected:
            # Not kept: the cache would give it to everybody.
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise _WrongBytesError(name)
        return path

    with explained(repo, revision):
        try:
            return patiently(fetch)
        except LocalEntryNotFoundError:
            if try_to_load_from_cache(repo, name, revision=revision) is _CACHED_NO_EXIST:
                return None
            raise
        except EntryNotFoundError:
            return None


class _WrongBytesError(OSError):
    def __init__(self, name: str):
        super().__init__(f"{name} arrived damaged: its hash is not the one that the Hub names")


def _hash_of(api, repo: str, name: str, path: Path) -> str | None:
    """The hash that the Hub names for a cached file (the client checks its size only), None where it cannot be known."""
    if path.is_symlink():
        etag = Path(os.readlink(path)).name
    else:  # a file system without links: the cache does not keep the hash
        try:
            etag = api.get_hf_file_metadata(url=_url(api, repo, name, path.parent.name)).etag or ""
        except _errors():
            return None
    return etag if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", etag) else None


def _url(api, repo: str, name: str, commit: str) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repo, name, revision=commit, endpoint=api.endpoint)


def _hash(path: Path, digits: int) -> str:
    """Of 64 digits that of large files, SHA-256; of 40 that of git, which hashes the size too."""
    digest = hashlib.sha256() if digits == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as file:
        for block in iter(functools.partial(file.read, 1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _lacks(api, repo: str, name: str, revision: str | None) -> CheckpointError:
    pickle = _pickles_only(api, repo, revision)
    if pickle is None:
        return CheckpointError(f"{repo}: has no {name}; a checkpoint is {CONFIG} and {WEIGHTS}")
    return CheckpointError(
        f"{repo}: offers its weights as a pickle only ({pickle}), which can run any code when it is opened; {WEIGHTS} is needed"
    )


def _pickles_only(api, repo: str, revision: str | None) -> str | None:
    """The first pickle of a repository without safetensors."""
    try:
        names = _names(api, repo, revision)
    except CheckpointError:  # to be said after another error, which this one shall not hide
        return None
    safe = any(n.endswith(".safetensors") for n in names)
    return None if safe else next((n for n in names if n.endswith(PICKLES)), None)


def _names(api, repo: str, revision: str | None) -> list[str]:
    with explained(repo, revision):
        return patiently(lambda: api.list_repo_files(repo, revision=revision))


def _errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HfHubHTTPError

    # The base of all errors of the HTTP library that this version of the client uses; and a server's page that is no JSON.
    return OSError, HfHubHTTPError.__bases__[0], json.JSONDecodeError


def _passing(error: Exception, codes: tuple[int, ...], lost: bool) -> bool:
    from huggingface_hub.errors import EntryNotFoundError, OfflineModeIsEnabled

    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code in codes
    return (
        lost and not isinstance(error, (EntryNotFoundError, OfflineModeIsEnabled)) and getattr(error, "errno", None) is None
    )


def _retry_after(error: Exception) -> int:
    headers = getattr(getattr(error, "response", None), "headers", {})
    asked = headers.get("Retry-After") or "0"
    return int(asked) if asked.isdigit() else 0


def _reason(error: BaseException, revision: str | None) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    log_in = "log in ('hf auth login') or set HF_TOKEN"
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # of an upload
        return f"{one_line(error)} {_reason(error.__cause__, revision)}"
    if isinstance(error, LocalEntryNotFoundError) and getattr(error.__cause__, "response", None) is not None:
        return _reason(error.__cause__, revision)  # the cache lacks it, and this was the Hub's answer
    if isinstance(error, (OfflineModeIsEnabled, LocalEntryNotFoundError)):
        if constants.HF_HUB_OFFLINE:
            return f"not (wholly) in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set; unset it"
        return f"not in the cache, and the Hub cannot be reached ({one_line(error.__cause__ or error)}); try again later"
    if isinstance(error, GatedRepoError):
        return f"asks for consent to its terms; give it on its page, then {log_in}"
    if isinstance(error, RepositoryNotFoundError):
        return f"no such folder or Hub repository; if it is private, {log_in}"
    if isinstance(error, RevisionNotFoundError):
        return f"has no revision {revision!r}; give a branch, a tag, a commit or refs/pr/N"
    code = getattr(getattr(error, "response", None), "status_code", None)
    if code == 401:
        return f"not logged in, or with a token that the Hub does not accept; {log_in}"
    if code == 403:
        return f"the token does not allow this ({getattr(error, 'server_message', None) or 'forbidden'}); {log_in} with one that does"
    if code in (409, 412):
        return "somebody else changed it meanwhile; try again"
    if code == 429:
        return f"the Hub is asked too often; try again{f' in {_retry_after(error)} s' if _retry_after(error) else ' later'}"
    if code in SERVER_ERRORS:
        return f"the Hub answers with error {code}; try again later"
    if isinstance(error, OSError) and error.errno is not None:
        return f"the cache {constants.HF_HUB_CACHE} cannot be written ({error.strerror}); make room, or set HF_HOME to another place"
    if code is None and isinstance(error, _errors()) and not isinstance(error, _WrongBytesError):
        return f"the connection to the Hub failed ({one_line(error)}); try again"
    return one_line(error)
