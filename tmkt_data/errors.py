"""Exceptions of tmkt; each message is one line, *place: found, expected; what to do*."""


def printable(text: str) -> str:
    r"""Return a text as one line, with unprintable characters escaped.

    Example:
        >>> printable("name\nerror: forged\x1b[2J")
        'name\\nerror: forged\\x1b[2J'
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def counted(num: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural.

    Example:
        >>> counted(1, "file"), counted(2, "class")
        ('1 file', '2 classes')
    """
    plural = "es" if noun.endswith("s") else "s"
    return f"{num} {noun}{plural if num != 1 else ''}"


class TmktError(Exception):
    """Base class for errors that users can fix. The command line prints one line and exits with code 1."""


class SpecError(TmktError):
    """An invalid option, value or combination of options."""


class EventError(TmktError):
    """A recording cannot be decoded, or events do not fit their target format."""


class ImageError(TmktError):
    """An image cannot be read."""


class CatalogueError(TmktError):
    """A dataset folder is missing, incomplete or has an unexpected layout."""


class CacheError(TmktError):
    """A cache is missing, truncated, modified, of another version, or lacks the requested data."""


class PairingError(TmktError):
    """A recording has no image to be paired with."""
