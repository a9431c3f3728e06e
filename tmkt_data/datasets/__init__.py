"""What samples a dataset has: their ids, classes, splits, and twins."""
