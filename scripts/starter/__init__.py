"""Made the starter model and its prompts; the library only ships their result."""
