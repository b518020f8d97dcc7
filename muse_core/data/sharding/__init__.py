"""From pictures on disk to shards: list, check, plan, write; each step by any number of processes."""
