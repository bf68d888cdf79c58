"""What reads: one array with named dims and labels, from a store or from memory. Not here: what is done with the values."""

from pipeline.source.open import open_source

__all__ = ["open_source"]
