"""Imported once by the fork server, so that workers share csle-cyborg's pages instead of loading it each.

Works at import, like `collectors.preload`.
"""

from __future__ import annotations

from workflow_rl.cage2.cyborg import CybORGEnv

CybORGEnv().close()
