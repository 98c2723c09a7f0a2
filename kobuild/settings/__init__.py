"""`kobuild.toml`: frozen types and their parser."""
