"""What reads: one array with named dims and labels, from a store or from memory. Not here: what is done with the values."""
