"""Images as immutable values: layers with a way to open their bytes, and edits that return new images."""
