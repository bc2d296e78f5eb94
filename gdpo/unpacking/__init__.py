"""A GGUF file as the base of a training: read within bounds, and made into a model's folder by a worker."""
