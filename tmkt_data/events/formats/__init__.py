"""One module per file format: bytes in, `Events` out."""
