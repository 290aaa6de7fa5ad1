"""Methods that are computed at one go."""
