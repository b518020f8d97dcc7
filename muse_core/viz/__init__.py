"""Pictures of what a tokenizer does: grids, attention figures, curves, and the report.

Everything here draws what it is given (arrays, dictionaries, paths) and knows no model.
"""
