"""What the streams are taught by: one file per objective, values in, scalar tensors out."""
