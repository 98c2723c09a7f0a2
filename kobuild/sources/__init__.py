"""Where upstream releases come from: versions, assets, checksums and downloads, one module per source."""
