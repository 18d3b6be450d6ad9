"""What the tests of the plug-in share."""

from __future__ import annotations

import pytest

pytest.importorskip("sb3_contrib")
