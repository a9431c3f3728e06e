"""Where datasets lie: locate, download, unpack, and check them."""
