"""Training of the tiny foundation pack: stand-ins for the parts that MUSE starts from.

`python -m muse_core.training.foundation PART --out DIR` trains one part (backbone, pixels, teacher, self-teacher) on
fresh built-in scenes, resumes by itself, and writes it in the layout that `muse_core.model.weights.tiny` loads.
"""
