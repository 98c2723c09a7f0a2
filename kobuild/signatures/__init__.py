"""Publishers' signatures: what a signature file says, and whether it is for these bytes; no I/O of its own.

The libraries that verify are extras, and are imported when a signature is there to be verified.
"""
