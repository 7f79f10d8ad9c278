"""Where pictures are: in local files, or wherever fsspec reaches (``s3://``, ``gs://``, ``hf://``, ``memory://``, …).

A path with a protocol is remote, but for ``file://``; it is read and written by way of a local temporary. Both kinds of
place have the same methods; paths are strings, names below a folder have ``/`` between their parts.
"""

import contextlib
import dataclasses
import os
import posixpath
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sr_zoo.errors import UserError, one_line

__all__ = ["Listing", "Local", "PlaceError", "Remote", "inside", "joined", "place", "split"]

# What is uploaded there appears whole when the upload ends, and a rename would be a copy. Elsewhere we write beside and rename.
OBJECT_STORES = {"abfs", "abfss", "adl", "az", "gcs", "gs", "hf", "oci", "oss", "s3", "s3a", "tos"}


class PlaceError(UserError):
    """A folder or file that cannot be listed, fetched or stored; the message names it and says what to do."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """Names of all regular files below a folder, sorted, but for hidden ones.

    Attributes:
        names: with ``/`` between their parts.
        failures: what could not be listed, a line each.
        notes: what was left out although a user may not expect it, a line each.
    """

    names: list[str]
    failures: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def place(path: str) -> "Local | Remote":
    """What lists, fetches and stores at ``path``.

    Raises:
        PlaceError: no such protocol, or the package that speaks it is not installed.
    """
    protocol = _protocol(path)
    return Local() if protocol in ("", "file", "local") else Remote(path)


def joined(folder: str, name: str) -> str:
    """``name`` below ``folder``; ``name`` may have several parts."""
    return (
        f"{folder if folder.endswith('/') else folder + '/'}{name}"
        if _protocol(folder)
        else os.path.join(folder, *name.split("/"))
    )


def split(path: str) -> tuple[str, str]:
    """The folder of ``path``, empty for the current one, and the name in it."""
    if not _protocol(path):
        return os.path.split(path)
    folder, _, name = path.rpartition("/")
    return folder if "://" in folder else f"{folder}/", name


def inside(path: str, folder: str) -> str | None:
    """The name of ``path`` below ``folder``, ``"."`` where they are the same, None where it lies elsewhere."""
    if type(place(path)) is not type(place(folder)):
        return None
    one, other = place(path).absolute(path), place(folder).absolute(folder)
    if one == other:
        return "."
    return one[len(other) :].strip("/") if one.startswith(f"{other.rstrip('/')}/") else None


class Local:
    """Files of this machine."""

    def absolute(self, path: str) -> str:
        return os.path.realpath(_local(path)).replace(os.sep, "/")

    def identity(self, path: str):
        """What all names of one file share; None where there is no file."""
        try:
            state = os.stat(_local(path))
        except OSError:
            return None
        return state.st_dev, state.st_ino

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(_local(path))

    def names(self, folder: str) -> set[str]:
        """What is in ``folder``, hidden files too; nothing where there is no such folder yet."""
        with contextlib.suppress(OSError):
            return set(os.listdir(_local(folder) or "."))
        return set()

    def files(self, folder: str, recursive: bool) -> Listing:
        """A folder that is a symbolic link is not entered, so that none is met twice or for ever; a note says so."""
        errors, notes, found, root = [], [], [], _local(folder)
        for base, folders, names in os.walk(root, onerror=errors.append):
            folders[:] = [f for f in folders if not f.startswith(".")] if recursive else []
            links = [path for path in (os.path.join(base, f) for f in folders) if os.path.islink(path)]
            notes += [f"{path}: is a link to a folder, not followed; give it as an input of its own" for path in links]
            paths = (os.path.join(base, n) for n in names if not n.startswith("."))
            found += [os.path.relpath(p, root).replace(os.sep, "/") for p in paths if _regular(p)]
        failures = [f"{e.filename}: cannot be listed ({e.strerror})" for e in errors]
        return Listing(sorted(found), sorted(failures), sorted(notes))

    def make(self, folder: str) -> None:
        """Make a folder, if there is none, so that a place that cannot be written is known before anything is computed."""
        try:
            os.makedirs(_local(folder), exist_ok=True)
        except OSError as error:
            raise PlaceError(f"{folder}: cannot be made ({error.strerror}); give another --output") from None

    @contextlib.contextmanager
    def fetched(self, path: str) -> Iterator[Path]:
        yield Path(_local(path))

    @contextlib.contextmanager
    def stored(self, path: str) -> Iterator[Path]:
        yield Path(_local(path))


class Remote:
    """Files behind an fsspec file system, of which the methods may be called by several threads."""

    def __init__(self, url: str):
        from fsspec.core import url_to_fs
        from fsspec.registry import known_implementations

        self.protocol = _protocol(url)
        try:
            self.fs = url_to_fs(url)[0]
        except ImportError as error:
            package = known_implementations.get(self.protocol, {}).get("class", "").split(".")[0]
            advice = f"; pip install {package}" if package not in ("", "fsspec") else ""
            raise PlaceError(f"{url}: {self.protocol}:// needs another package{advice} ({one_line(error)})") from None
        except Exception as error:
            raise PlaceError(f"{url}: cannot be reached ({one_line(error)})") from None

    def absolute(self, path: str) -> str:
        # Two buckets of one name on two services would be two file systems.
        return f"{self.protocol}://{self.fs._strip_protocol(path).strip('/')}"

    def identity(self, path: str):
        """The name: links are unknown here, and whether there is a file is not asked."""
        return self.absolute(path)

    def is_folder(self, path: str) -> bool:
        with _explained(path):
            return self.fs.isdir(path)

    def names(self, folder: str) -> set[str]:
        with _explained(folder):
            self.fs.invalidate_cache()
            try:
                return {posixpath.basename(f["name"].rstrip("/")) for f in self.fs.ls(folder, detail=True)}
            except FileNotFoundError:
                return set()

    def files(self, folder: str, recursive: bool) -> Listing:
        with _explained(folder):
            root = self.fs._strip_protocol(folder).strip("/")
            found = self.fs.find(folder, maxdepth=None if recursive else 1)
        names = [f.strip("/")[len(root) :].strip("/") for f in found]
        return Listing(sorted(n for n in names if not any(part.startswith(".") for part in n.split("/"))))

    def make(self, folder: str) -> None:
        """Nothing: folders come with their first file."""

    @contextlib.contextmanager
    def fetched(self, path: str) -> Iterator[Path]:
        """A local copy, as long as the block lasts; errors that name it are told with ``path`` instead."""
        with self._temporary(path) as local:
            with _explained(path):
                self.fs.get_file(path, str(local))
            yield local

    @contextlib.contextmanager
    def stored(self, path: str) -> Iterator[Path]:
        """A local path to write to; when the block ends without an error, the file is at ``path``, whole."""
        with self._temporary(path) as local:
            yield local
            with _explained(path, "there is no such bucket or folder to write to"):
                if self.protocol in OBJECT_STORES:
                    self.fs.put_file(str(local), path)
                else:
                    self._renamed(local, path)

    def _renamed(self, local: Path, path: str) -> None:
        folder, name = split(path)
        beside = joined(folder, f".{name}-{os.urandom(4).hex()}")
        self.fs.makedirs(folder, exist_ok=True)
        try:
            self.fs.put_file(str(local), beside)
            try:
                return self.fs.mv(beside, path)
            except Exception:  # not every file system renames over a file, and each says so by an error of its own
                if not self.fs.exists(path):
                    raise
        except BaseException:  # Ctrl-C too: what is half uploaded goes; raised again
            with contextlib.suppress(Exception):  # clearing away must not hide why
                self.fs.rm_file(beside)
            raise
        try:  # from here on there may be no other copy: it stays, whatever happens
            self.fs.rm_file(path)
            self.fs.mv(beside, path)
        except Exception as error:
            raise PlaceError(
                f"{path}: could not be replaced ({one_line(error)}); what should be there is {beside}"
            ) from None

    @contextlib.contextmanager
    def _temporary(self, path: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="sr_zoo-") as folder:
            local = Path(folder) / posixpath.basename(path)
            try:
                yield local
            except UserError as error:
                raise type(error)(str(error).replace(str(local), path)) from None


@contextlib.contextmanager
def _explained(path: str, missing: str = "no such file") -> Iterator[None]:
    """Whatever a file system raises becomes one line that names ``path``."""
    try:
        yield
    except PlaceError:
        raise
    except FileNotFoundError:
        raise PlaceError(f"{path}: {missing}") from None
    except PermissionError as error:
        raise PlaceError(f"{path}: permission denied ({one_line(error)})") from None
    except Exception as error:
        # Each service has errors of its own: credentials, connections, quotas.
        raise PlaceError(f"{path}: cannot be reached ({type(error).__name__}: {one_line(error)})") from None


def _protocol(path: str) -> str:
    """``s3`` of ``s3://bucket``, and the outermost of a chain such as ``zip::s3://…``."""
    return path.split("://", 1)[0].split("::", 1)[0] if "://" in path else ""


def _local(path: str) -> str:
    if not _protocol(path):
        return path
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem._strip_protocol(path)


def _regular(path: str) -> bool:
    """Whether a file can be opened without waiting; a link to nowhere counts, so that somebody says so."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True
