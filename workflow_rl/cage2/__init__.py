"""CAGE Challenge 2 (CybORG Scenario2): its facts, the reference simulator and the native one."""
