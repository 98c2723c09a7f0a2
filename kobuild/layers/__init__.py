"""The layer engine: upstream archives become image layers, streamed and verified.

`engine` does it; `plan` has the values that go in and come out, which cost nothing to import.
"""
