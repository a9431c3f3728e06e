"""The faults: each a small class that says which calls it can hit and what it does to one of them."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar

from tests.faults import shim
from tests.faults.shim import Action, Call, Op

_TAKES_SPACE = {Op.CREATE, Op.WRITE, Op.TRUNCATE, Op.SYNC, Op.SYNC_ALL, Op.MKDIR}


class Fault:
    """A fault in one process, at call number N."""

    name: ClassVar[str]
    action: ClassVar[Action]
    error: ClassVar[int] = 0
    reads: ClassVar[bool] = False
    """Whether it hits opening and reading the inputs instead of changing the outputs."""

    @classmethod
    def can_hit(cls, call: Call) -> bool:
        """Return whether such a call can fail in this way."""
        return call.op not in (Op.OPEN, Op.READ) or cls.reads

    @classmethod
    def arm(cls, folder: Path, at: int) -> None:
        """Let call `at` of this process fail."""
        shim.arm(folder, cls.action, at, error=cls.error, reads=cls.reads)


class KillBefore(Fault):
    """Killed before the call."""

    name, action = "kill-before", Action.KILL_BEFORE


class KillMidway(Fault):
    """Killed when half of the bytes of a write are there."""

    name, action = "kill-midway", Action.KILL_MIDWAY

    @classmethod
    def can_hit(cls, call: Call) -> bool:
        return call.op is Op.WRITE


class KillAfter(Fault):
    """Killed when the call is done."""

    name, action = "kill-after", Action.KILL_AFTER


class NoSpaceOnce(Fault):
    """One call finds no space; the next one does."""

    name, action, error = "one-enospc", Action.ERROR_ONCE, errno.ENOSPC

    @classmethod
    def can_hit(cls, call: Call) -> bool:
        return call.op in _TAKES_SPACE or call.op is Op.RENAME


class DiskErrorOnce(Fault):
    """One call fails in the disk."""

    name, action, error = "one-eio", Action.ERROR_ONCE, errno.EIO


class FullFrom(Fault):
    """The disk is full from a call on; renaming and removing still work."""

    name, action, error = "full-from", Action.ERROR_FROM, errno.ENOSPC

    @classmethod
    def can_hit(cls, call: Call) -> bool:
        return call.op in _TAKES_SPACE


class _ReadFault(Fault):
    action, reads = Action.ERROR_ONCE, True


class UnreadableDisk(_ReadFault):
    """One call that reads an input fails in the disk."""

    name, error = "read-eio", errno.EIO


class TooManyFiles(_ReadFault):
    """One input cannot be opened, as too many files are."""

    name, error = "open-emfile", errno.EMFILE

    @classmethod
    def can_hit(cls, call: Call) -> bool:
        return call.op is Op.OPEN


class TooManyFilesFrom(TooManyFiles):
    """No input can be opened from a call on."""

    name, action = "emfile-from", Action.ERROR_FROM


class NotAllowed(TooManyFiles):
    """One input may not be opened."""

    name, error = "open-eacces", errno.EACCES


class NoMemory(_ReadFault):
    """One call that reads an input finds no memory."""

    name, error = "read-enomem", errno.ENOMEM


class PowerLoss(Fault):
    """The power goes after a call: what was not forced to disk is there or not, in any order. See `power_loss`."""

    name, action = "power-loss", Action.COUNT


FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        *(KillBefore, KillMidway, KillAfter, NoSpaceOnce, DiskErrorOnce, FullFrom, PowerLoss),
        *(UnreadableDisk, TooManyFiles, TooManyFilesFrom, NotAllowed, NoMemory),
    )
}
