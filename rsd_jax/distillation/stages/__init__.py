"""The stages that make a pair, each a function of the workspace."""
