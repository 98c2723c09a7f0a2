"""The OCI image specification as pure data: no file, no network."""
