"""What each command does, one file a command: `configure` says what can be typed, `run` does it.

`kobuild.cli` imports only the one that is asked for: a command with nothing to do should cost next to nothing.
"""
