"""Leaves during init."""

import sys

sys.exit(3)
