"""The model card: its content as data, and renderings of it."""
