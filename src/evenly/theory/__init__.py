"""The mathematics, as pure functions on numpy arrays. Knows nothing of models or files."""
