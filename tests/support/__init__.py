"""What several tests share: small networks, recorded devices, builds, and what must be installed for them."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
REPOSITORY = TESTS.parent
