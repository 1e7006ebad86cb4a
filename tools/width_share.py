"""Networks of which every group of channels keeps the same share."""

from edgeslim.compress.prune.channels import Channels, legal_widths

MULTIPLE = 8


def beyond_share(channels: Channels, share: float) -> dict[str, range]:
    """Return what to remove so that every group has the legal width nearest to a share of its own; the first stay."""
    removed = {}
    for name, group in channels.groups.items():
        legal = legal_widths(channels, name, MULTIPLE)
        width = min(legal, key=lambda one, own=group.width: abs(one - share * own))  # type: ignore[misc]
        removed[name] = range(width, group.width)
    return removed
