"""Text headers of Prophesee recordings: lines that start with a percent sign."""

from __future__ import annotations

import re
from typing import NamedTuple

from tmkt_data.events.events import SensorSize

_MAX_LINE = 4096
_GEOMETRY = re.compile(r"^geometry\s+(\d{1,5})x(\d{1,5})$")
_NUMBER = re.compile(r"^(\w+)\s+(\d{1,18})$")
_FORMAT_PART = re.compile(r"(\w+)=(\w+)")


class PercentHeader(NamedTuple):
    """A text header of lines that start with a percent sign.

    Attributes:
        lines: The lines without percent sign and surrounding space, in lower case.
        size: Its size in bytes.
    """

    lines: tuple[str, ...]
    size: int

    def number(self, name: str) -> int | None:
        """Return the number of a line such as `width 640`; None without that line."""
        found = (_NUMBER.match(line) for line in self.lines)
        return next((int(match[2]) for match in found if match and match[1] == name), None)

    @property
    def format_parts(self) -> dict[str, str]:
        """The parts of a line such as `format EVT3;height=480;width=640`; the first one under the name `format`."""
        line = next((line for line in self.lines if line.startswith("format ")), "")
        parts = dict(_FORMAT_PART.findall(line))
        return {"format": line[7:].split(";")[0].strip(), **parts} if line else {}

    @property
    def byte_order(self) -> str | None:
        """The byte order that is declared; None without one."""
        line = next((line.split(None, 1)[1] for line in self.lines if line.startswith("endianness ")), None)
        return line or self.format_parts.get("endianness")

    @property
    def sensor_size(self) -> SensorSize | None:
        """The size in the line `geometry`, in `format`, or in `width` and `height`; None without any of them."""
        matches = (_GEOMETRY.match(line) for line in self.lines)
        geometry = next((match for match in matches if match), None)
        parts = self.format_parts
        pairs = (
            (int(geometry[1]), int(geometry[2])) if geometry else None,
            tuple(int(parts[n]) if parts.get(n, "").isdecimal() else None for n in ("width", "height")),
            (self.number("width"), self.number("height")),
        )
        for pair in pairs:
            if pair and pair[0] and pair[1] and max(pair[0], pair[1]) <= 65536:
                return SensorSize(pair[0], pair[1])
        return None


def read_percent_header(data: bytes) -> PercentHeader:
    """Read the header of a file.

    It ends with a line `% end`, or before the first line that does not start with a percent sign, is longer than 4096
    bytes, or is no text: data may start with the byte of a percent sign, too.
    """
    lines: list[str] = []
    at = 0
    while data.startswith(b"%", at):
        end = data.find(b"\n", at, at + _MAX_LINE)
        line = data[at:end]
        if end < 0 or not all(32 <= byte < 127 or byte in b"\t\r" for byte in line):
            break
        at = end + 1
        lines.append(line[1:].decode("ascii").strip().lower())
        if lines[-1] == "end":
            break
    return PercentHeader(tuple(lines), at)
