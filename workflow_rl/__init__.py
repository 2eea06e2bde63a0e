"""Cyber-defence agents that keep to a workflow, trained with barrier-free episode collection."""
