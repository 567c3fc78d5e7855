"""Files that are written whole or not at all, and folders that one process writes at a time."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sw_models.errors import InputError

_HALF_WRITTEN = ".writing"  # ends the name of a file that is not complete
_LOCK = ".lock"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, bring it to the disk, and rename it to ``path``.

    Any number of processes may write the same file: the last to finish wins, and a reader sees one of them whole. The
    file gets the mode that the process's umask gives a new one, whatever the writer of its format prefers.

    Args:
        path: the file; its folder exists.
        write: gets the temporary file's name, which is different in every call. A killed process leaves it behind,
            until :func:`remove_half_written`.

    Raises:
        OSError: the disk is full, the folder is not there or read-only; the earlier file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_HALF_WRITTEN}")
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_half_written(folder: Path) -> None:
    """Delete the temporary files that killed processes left in ``folder``; call it under :func:`lock_folder`."""
    for path in folder.glob(f".*{_HALF_WRITTEN}"):
        path.unlink(missing_ok=True)


def want_new_file(name: str, path: Path) -> None:
    """Refuse a file that is there, or that could not be made.

    Args:
        name: what the file is called in the error, such as "OUT" or "--picture".
        path: the file to be written.

    Raises:
        InputError: there is such a file, or no folder to put it in.
    """
    if path.exists() or path.is_symlink():
        raise InputError(f"{name}: got {path}, which is already there, want a new file")
    if not path.parent.is_dir():
        raise InputError(f"{name}: got {path}, want a file in a folder that exists")


def make_folder(name: str, path: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        InputError: a file, a link that leads nowhere, or the rights of the folder above are in the way.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if path.is_symlink() and not path.exists():
            raise InputError(f"{name}: got {path}, a link to {path.readlink()}, which is not there") from error
        raise InputError(f"{name}: got {path}, want a folder ({error.strerror})") from error


def new_folder(name: str, wanted: Path | None, numbered: Path) -> Path:
    """Make and return the folder that is wanted, or else the next of ``numbered/001``, ``002``, ...

    Args:
        name: what the folder is called in an error, such as "--out".
        wanted: a folder that is not there yet, or is empty.
        numbered: where folders are numbered.

    Raises:
        InputError: the wanted folder holds something, or cannot be made.
    """
    if wanted is None:
        taken = [int(path.name) for path in numbered.glob("[0-9]*") if path.name.isdigit()]
        wanted = numbered / f"{max(taken, default=0) + 1:03}"
    elif wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise InputError(f"{name}: got {wanted}, which is already there, want a new folder")
    make_folder(name, wanted)
    return wanted


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs; a process that dies leaves it open.

    Args:
        folder: an existing folder. A file ``.lock`` in it says who works there.

    Raises:
        InputError: another process works there; the message names it.
    """
    # Opened for reading and writing without truncation, so that a process that is refused can read who holds it.
    with os.fdopen(os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip() or "another process"
            raise InputError(f"{folder}: {holder} is writing there; wait for it, or choose another folder") from None
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            with suppress(OSError):  # the folder may have been moved
                file.seek(0)
                file.truncate()


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
