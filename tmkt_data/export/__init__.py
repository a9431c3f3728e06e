"""Export a cache to formats that other loaders stream: WebDataset shards, Parquet."""
