"""The tokenizer's three stages: what trains in each, its losses, and how a run of one begins and goes on."""
