"""What stands in an address is a name and nothing that ssh or a shell takes for more."""

import pytest

from edgeslim.deploy.targets.ssh import open_target
from edgeslim.errors import BadInput


@pytest.mark.parametrize(
    "address",
    [
        "ssh://-oProxyCommand=touch@board",
        "ssh://-oProxyCommand=touch",
        "ssh://pi@-l",
        "ssh://pi@board:22222222",
        "ssh://pi@bo ard",
        "ssh://pi;ls@board",
        "ssh://pi@board\n",
        "ssh://$(ls)@board",
        "ssh://pi@board/folder",
    ],
)
def test_what_is_no_name_of_a_user_or_a_host_is_refused(address: str) -> None:
    with pytest.raises(BadInput, match="expected ssh://user@host:port"), open_target(address):
        pass


def test_a_folder_with_a_line_end_is_refused_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESLIM_REMOTE", "/tmp/a\ntouch b")
    with pytest.raises(BadInput, match=r"EDGESLIM_REMOTE is '/tmp/a\\ntouch b'"), open_target("ssh://pi@board"):
        pass
