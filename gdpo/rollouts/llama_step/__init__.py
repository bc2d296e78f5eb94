"""One decode step of a Llama-shaped model, written out in plain torch."""
