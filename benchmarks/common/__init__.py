"""Parts that several benchmarks share; there is nothing to run here."""
