"""The convergence figure."""
