"""What a loss of power can leave of recorded calls: unsynced writes dropped, in any order, torn at pages."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.shim import Call, Op

PAGE = 4096
_OF_NAMES = (Op.CREATE, Op.RENAME, Op.UNLINK, Op.MKDIR, Op.RMDIR)


@dataclass(eq=False)
class _Node:
    """A file: its bytes before the run, its changes by place, and where it was synced last."""

    before: bytes = b""
    changes: list[tuple[int, Call]] = field(default_factory=list)
    synced_at: int = -1

    def left(self, rng: random.Random) -> bytes:
        """Draw the bytes that are on disk."""
        data, share = bytearray(self.before), rng.choice((0.0, 0.5, 0.9, 1.0))
        for place, call in self.changes:
            is_sure = place <= self.synced_at
            if call.op is Op.TRUNCATE:
                if is_sure or rng.random() < share:
                    del data[call.offset :]
                    data.extend(bytes(call.offset - len(data)))
                continue
            for first, part in _pages(call):
                if is_sure or rng.random() < share:
                    data.extend(bytes(max(0, first + len(part) - len(data))))
                    data[first : first + len(part)] = part
                elif rng.random() < share:
                    # The file has its new size, its bytes are not there.
                    data.extend(bytes(max(0, first + len(part) - len(data))))
        return bytes(data)


class _Tree:
    """Names of folders and files below one folder."""

    def __init__(self, files: dict[str, _Node], folders: set[str]) -> None:
        self.files, self.folders = dict(files), set(folders)

    def apply(self, call: Call, made: _Node | None) -> None:
        if call.op is Op.CREATE and made is not None:
            self.files[call.path] = made
        elif call.op is Op.MKDIR:
            self.folders.add(call.path)
        elif call.op is Op.RMDIR:
            self.folders.discard(call.path)
        elif call.op is Op.UNLINK:
            self.files.pop(call.path, None)
        elif call.op is Op.RENAME:
            self._rename(call.path, call.other)

    def _rename(self, old: str, new: str) -> None:
        if old in self.files:
            self.files[new] = self.files.pop(old)
        for names in (list(self.folders), list(self.files)):
            for name in names:
                if name == old or name.startswith(f"{old}/"):
                    moved = new + name[len(old) :]
                    if name in self.folders:
                        self.folders.remove(name)
                        self.folders.add(moved)
                    else:
                        self.files[moved] = self.files.pop(name)


def leave(calls: Sequence[Call], at: int, folder: Path, seed: str) -> None:
    """Bring a folder into a state in which a loss of power after call `at` may leave it.

    The model is a file system that journals names in their order, such as ext4, XFS or Btrfs: of the changes of names
    any beginning is on disk, which holds at least what was done before the last sync of their folder. Bytes of a file
    are on disk for sure when the file was synced after they were written; of the others each page is there or not, and
    where it is not, the file holds zeros or ends before.

    Args:
        calls: All calls of an undisturbed run.
        at: Number of the last call that happened.
        folder: The folder as it was before the run; changed in place.
        seed: Seed of what is lost.
    """
    rng = random.Random(seed)
    happened = [call for call in calls if call.number <= at]
    start = _read(folder)
    live, by_inode, made, sure = _Tree(start.files, start.folders), dict[int, _Node](), dict[int, _Node](), -1
    last_name = dict[str, int]()
    for place, call in enumerate(happened):
        if call.op is Op.CREATE:
            made[place] = by_inode[call.inode] = _Node()
        if call.op in _OF_NAMES:
            live.apply(call, made.get(place))
            for name in filter(None, (call.path, call.other)):
                last_name[str(Path(name).parent)] = place
        elif call.op is Op.SYNC_ALL:
            sure = place
            for node in (*by_inode.values(), *made.values()):
                node.synced_at = place
        elif call.op is Op.SYNC and call.path in live.folders:
            sure = max(sure, last_name.get(call.path, -1))
        else:
            node = by_inode.setdefault(call.inode, live.files.get(call.path) or _Node())
            if call.op is Op.SYNC:
                node.synced_at = place
            else:
                node.changes.append((place, call))
    names = [place for place, call in enumerate(happened) if call.op in _OF_NAMES]
    kept = names[: rng.randint(sum(place <= sure for place in names), len(names))]
    left = _Tree(start.files, start.folders)
    for place in kept:
        left.apply(happened[place], made.get(place))
    _write(folder, left, rng)


def _pages(call: Call) -> list[tuple[int, bytes]]:
    """Return offset and bytes of the parts of a write, one of each page."""
    cuts = [call.offset, *range(-(-(call.offset + 1) // PAGE) * PAGE, call.offset + len(call.data), PAGE)]
    ends = [*cuts[1:], call.offset + len(call.data)]
    return [(cut, call.data[cut - call.offset : end - call.offset]) for cut, end in zip(cuts, ends, strict=True)]


def _read(folder: Path) -> _Tree:
    found = sorted(folder.rglob("*"))
    files = {str(path): _Node(path.read_bytes()) for path in found if path.is_file()}
    return _Tree(files, {str(folder), *(str(path) for path in found if path.is_dir())})


def _write(folder: Path, tree: _Tree, rng: random.Random) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    for name in sorted(tree.folders):
        Path(name).mkdir(parents=True, exist_ok=True)
    for name, node in sorted(tree.files.items()):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(node.left(rng))
