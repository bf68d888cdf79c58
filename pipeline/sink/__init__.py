"""What writes: the output array among everything that stood around the input. Not here: what is written."""
