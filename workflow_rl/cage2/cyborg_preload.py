"""Imported once by the fork server, so that workers share csle-cyborg's pages instead of loading it each.

Works at import, like `collectors.preload`.
"""

from __future__ import annotations

import gc

from workflow_rl.cage2.cyborg import CybORGEnv

CybORGEnv().close()
gc.freeze()  # a worker's garbage collector would write to every inherited object, and so unshare its page
