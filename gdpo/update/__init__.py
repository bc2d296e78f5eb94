"""The update: log-probabilities, and every reward's gradient, in one backward pass."""
