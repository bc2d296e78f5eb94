"""Multi-reward reinforcement learning of local language models: a plain library that knows torch."""
