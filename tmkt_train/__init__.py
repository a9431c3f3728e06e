"""Train spiking networks on paired image and event data: time-step mixup, its baselines, one loop."""
