"""The home of ``MA_HOME``: one private folder on a local disk, and what an operating system's refusal means.

A folder others may enter could be fed prices, opinions or a journal; a network folder cannot be trusted with
the locks that keep two commands apart. Both are refused before anything is opened. The marker ``home.json``
is written when a home is complete, so a home that has one and lacks its journal has lost it.
"""

import errno
import json
import os
import stat
from datetime import datetime
from pathlib import Path

from marketagent.errors import BadConfig, BadData, DiskError, MarketAgentError, NoData, NotPermitted

MARKER = "home.json"
FORMAT = 1  # of the home as a whole: rises when an older `ma` must not touch it
NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "fuse.sshfs"})

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file may not grow any further",
    errno.EIO: "the disk fails",
}
_PERMISSION = {
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EROFS: "read-only file system",
}


def disk_error(error: OSError, path: Path) -> MarketAgentError:
    """What a user is told when the operating system refuses `path`: DiskError, NotPermitted, else the plain reason.

    >>> print(disk_error(OSError(errno.ENOSPC, "No space left on device"), Path("/data/x")))
    the disk is full at /data/x; free space and run again
    """
    code = error.errno
    if code in _PERMISSION:
        return NotPermitted(f"{_PERMISSION[code]} at {path}; give yourself write access, or set MA_HOME elsewhere")
    if code == errno.EIO:
        return DiskError(f"{_DISK[code]} at {path}; look at the system's log before running again")
    if code in _DISK:
        return DiskError(f"{_DISK[code]} at {path}; free space and run again")
    return MarketAgentError(f"{path}: {error.strerror or error}")


def create(home: Path) -> bool:
    """Make the folder, mode 0700, with its parents; True if it was not there. An existing one must pass `check`."""
    try:
        home.mkdir(mode=0o700)
    except FileExistsError:
        check_folder(home, write=True)
        return False
    except FileNotFoundError:
        _make_parents(home)
        try:
            home.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:  # a file system that makes no folders, such as /proc
            raise _refused(error, home) from error
        check_folder(home, write=True)
        return True
    except OSError as error:
        raise _refused(error, home) from error
    check_folder(home, write=True)
    return True


def mark(home: Path, now: datetime) -> bool:
    """Write the marker of a complete home; True if it had none. An existing marker is left as it is."""
    path = home / MARKER
    if is_marked(home):
        return False
    draft = home / f".{MARKER}.{os.getpid()}"
    text = json.dumps({"format": FORMAT, "created_at": now.isoformat()}) + "\n"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)  # whole or not at all, whenever the process dies
        sync_folder(home)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise disk_error(error, path) from error
    return True


def is_marked(home: Path) -> bool:
    """Whether a complete home was made here; raises BadData when its marker cannot be read or is a newer one."""
    path = home / MARKER
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except UnicodeDecodeError as error:
        raise BadData(f"{path} is damaged; it was not touched") from error
    except OSError as error:
        raise disk_error(error, path) from error
    if _format(text, path) > FORMAT:
        raise BadData(f"{home} was made by a newer Market Agent; update this one")
    return True


def check(home: Path, *, write: bool = False) -> None:
    """Refuse a home that is missing, not ours alone, on a network or, where `write`, not writable.

    Raises NoData when nothing is stored yet, NotPermitted, BadConfig or BadData for the rest.
    """
    check_folder(home, write=write)
    if not is_marked(home):
        raise _no_data(home)


def check_folder(home: Path, *, write: bool = False) -> None:
    """The part of `check` that holds before the home is complete."""
    try:
        status = home.stat()
    except FileNotFoundError as error:
        raise _no_data(home) from error
    except OSError as error:
        raise _refused(error, home) from error
    if not stat.S_ISDIR(status.st_mode):
        raise BadConfig(f"{home} is a file; set MA_HOME to a folder")
    if status.st_uid != os.geteuid():
        raise NotPermitted(f"{home} belongs to user id {status.st_uid}, not to you ({os.geteuid()}); set MA_HOME")
    if mode := stat.S_IMODE(status.st_mode) & 0o077:
        raise NotPermitted(f"others may enter {home} (mode {mode:03o} beyond yours); run: chmod 700 {home}")
    if kind := network_filesystem(home):
        raise BadConfig(f"{home} is on {kind}, where locks cannot be trusted; set MA_HOME to a local folder")
    if not os.access(home, os.R_OK | os.X_OK | (os.W_OK if write else 0)):
        raise NotPermitted(f"{home} cannot be {'written' if write else 'read'} by you; run: chmod 700 {home}")


def network_filesystem(path: Path, mounts: str | None = None) -> str | None:
    """The type of the network file system `path` lies on, None if it is local or the system does not say.

    `mounts` is the text of ``/proc/self/mountinfo`` (Linux, proc(5)); other systems have none and are believed.

    >>> text = "1 0 0:1 / / rw - ext4 /dev/a rw\\n2 1 0:2 / /srv rw shared:1 - nfs4 host:/x rw\\n"
    >>> network_filesystem(Path("/srv/ma"), text), network_filesystem(Path("/srvx"), text)
    ('nfs4', None)
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None  # no Linux, or no /proc here: nothing to judge by
        path = path.resolve()
    kind, longest = None, -1
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        point = Path(_unescaped(left.split(" ")[4]))
        # The later line wins among equals: it is mounted over the earlier one.
        if path.is_relative_to(point) and len(point.parts) >= longest:
            kind, longest = right.split(" ")[0], len(point.parts)
    return kind if kind in NETWORK else None


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_parents(home: Path) -> None:
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(error, home) from error


def _refused(error: OSError, home: Path) -> MarketAgentError:
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return BadConfig(f"a part of {home} is a file; set MA_HOME to a folder")
    return disk_error(error, home)


def _no_data(home: Path) -> NoData:
    return NoData(f"no data in {home} yet; run: ma fetch SYMBOL, or ma init")


def _format(text: str, path: Path) -> int:
    try:
        found = json.loads(text)["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise BadData(f"{path} is damaged; it was not touched") from error
    if isinstance(found, bool) or not isinstance(found, int):
        raise BadData(f"{path} has format {found!r}; it must be a whole number")
    return found


def _unescaped(text: str) -> str:
    """A mount point as the kernel writes it: blanks and backslashes in octal."""
    for code, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, sign)
    return text
