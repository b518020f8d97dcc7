"""Data: shards or built-in scenes in, batches out."""
