"""The method of the paper: advantages, the Gramian of the reward gradients, weights, and what directs a run."""
