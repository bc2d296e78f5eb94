"""llama.cpp: what is installed, its worker processes, and generation with a GGUF."""
