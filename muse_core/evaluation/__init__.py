"""One ruler for every tokenizer: reconstruction, probes, zero-shot classification, attention.

Nothing is imported here, so that declarations stay cheap; import what you need from the module that has it.
"""
