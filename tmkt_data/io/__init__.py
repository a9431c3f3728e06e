"""One module per on-disk format, from bytes to arrays; `read.py` picks the module."""
