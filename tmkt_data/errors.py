"""The errors of tmkt: each message is one line, *place: found, expected; what to do*."""


def printable(text: str) -> str:
    r"""Return a text as one line, with control characters and what else cannot be printed escaped.

    Example:
        >>> printable("name\nerror: forged\x1b[2J")
        'name\\nerror: forged\\x1b[2J'
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


class TmktError(Exception):
    """Anything a user can mend. The command line prints its text as one line and exits with 1."""


class SpecError(TmktError):
    """A choice, or a combination of choices, that does not exist."""


class EventError(TmktError):
    """A recording that cannot be decoded, or events that do not fit where they are put."""


class ImageError(TmktError):
    """A file that is no readable image."""


class CatalogueError(TmktError):
    """A dataset folder that is missing, incomplete or laid out otherwise."""


class CacheError(TmktError):
    """A cache that is missing, cut, altered, of another version, or lacks what is asked of it."""


class PairingError(TmktError):
    """A recording for which no image may be drawn."""
