"""The training methods: time-step mixing, losses, objectives."""
