"""Local places that hold blobs: the cache, OCI layouts, image archives."""
