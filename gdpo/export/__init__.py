"""Export to GGUF through llama.cpp: merge, convert, quantise, verify."""
