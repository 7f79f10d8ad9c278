"""Files and folders that appear whole or not at all."""

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["clear_stale", "exchange", "expanded", "lies_in", "same_place", "whole", "whole_folder"]

# Seconds after which what a writer left unfinished is taken for abandoned; nobody writes so long without a byte.
ABANDONED = 3600


def expanded(path: str | Path) -> Path:
    """The path with ``~`` replaced; where there is no such user it stays, and is no such folder (pathlib would raise)."""
    return Path(os.path.expanduser(path))


def lies_in(path: str | Path, folder: str | Path) -> bool:
    """Whether ``path`` is a folder somewhere below ``folder``, links resolved; not ``folder`` itself."""
    return expanded(folder).resolve() in expanded(path).resolve().parents


def same_place(path: str | Path, other: str | Path) -> bool:
    """Whether both are one place, links resolved."""
    return expanded(path).resolve() == expanded(other).resolve()


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes the place of ``path`` when the block ends without an error.

    A process that is killed, a full disk or an error leaves the old file, or none. Missing folders are made.

    Raises:
        OSError: the place cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=path.suffix)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o666 & ~_MASK)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def clear_stale(path: str | Path, names: set[str]) -> None:
    """Remove what processes that were killed have left of :func:`whole` writing to ``path``, if an hour old.

    Args:
        names: hidden files in the folder of ``path``, which is listed once for many paths.
    """
    path = Path(path)
    start = f".{path.stem[:40]}-"
    for name in names:
        # As mkstemp makes them: eight characters between prefix and suffix.
        if name.startswith(start) and name.endswith(path.suffix) and len(name) == len(start) + 8 + len(path.suffix):
            beside = path.with_name(name)
            with contextlib.suppress(OSError):
                if time.time() - beside.stat().st_mtime > ABANDONED:
                    beside.unlink()


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder beside ``path`` to fill; it becomes ``path`` when the block ends without an error.

    Raises:
        FileExistsError: there is something at ``path`` already, other than an empty folder.
        OSError: the place cannot be written.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path}: exists already")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:40]}-"))
    try:
        yield beside
        beside.chmod(0o777 & ~_MASK)
        if path.exists():
            path.rmdir()  # os.replace puts a folder over an empty one on POSIX only
        os.replace(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def exchange(one: str | Path, other: str | Path) -> None:
    """Two files or folders of one file system change places, in one step on Linux: at no time is either of them missing.

    Elsewhere, or where the file system cannot, there are three steps and a moment between.

    Raises:
        OSError: one of them does not exist, or may not be moved.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE: linux/fcntl.h, linux/fs.h
    if rename is not None:
        if rename(here, os.fsencode(one), here, os.fsencode(other), swap) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(code, os.strerror(code), str(one))
    aside = Path(f"{other}.aside")
    os.replace(one, aside)
    os.replace(other, one)
    os.replace(aside, other)


def _mask() -> int:
    """What permissions new files lack. It can only be read by setting it, which other threads' files would see: once."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


_MASK = _mask()
