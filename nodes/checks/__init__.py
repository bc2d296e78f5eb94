"""What nodes declare and check before any work starts: inputs, values, graphs, paths, memory."""
