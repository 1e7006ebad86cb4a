"""How QEMU stands in for a device, as data: the section `emulation` of a device profile."""

from typing import Annotated

from pydantic import Field

from edgeslim.sourced import Text
from edgeslim.strict_yaml import Section


class Emulation(Section):
    """The core that QEMU emulates, and what the device's kernel says of it: runtimes choose their kernels by that.

    `midr` is the register MIDR_EL1, `cpu_features` the words of "Features" in /proc/cpuinfo. `source` vouches for all.
    """

    qemu_cpu: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    midr: Annotated[str, Field(pattern=r"^0x[0-9a-f]{8}$")]
    cpu_features: Annotated[tuple[Text, ...], Field(min_length=1)]
    source: Text

    @property
    def cpu_part(self) -> str:
        """The part number in `midr` ("0xd08"), as /proc/cpuinfo shows it."""
        return f"0x{self._bits(4, 12):03x}"

    @property
    def implementer(self) -> int:
        """The implementer in `midr`: 0x41 is Arm."""
        return self._bits(24, 8)

    @property
    def variant(self) -> int:
        """The variant in `midr`: the n of the core's release rNpM."""
        return self._bits(20, 4)

    @property
    def revision(self) -> int:
        """The revision in `midr`: the m of the core's release rNpM."""
        return self._bits(0, 4)

    def _bits(self, first: int, count: int) -> int:
        return int(self.midr, 16) >> first & (1 << count) - 1
