"""The action's sessions: those that `kobuild init` gives to any project, in action_helper.py's environment."""

from kobuild import noxsessions

noxsessions.register()
