"""Images: decode, resize, and encode as spike frames."""
