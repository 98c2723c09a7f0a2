"""Attestations of an image, held against the policy of the settings."""
