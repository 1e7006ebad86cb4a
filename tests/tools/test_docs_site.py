"""The documents make a site without a warning; a dead link or a page nobody leads to ends it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY

TOOL = REPOSITORY / "tools" / "docs_site.py"


def site(root: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    """Run the tool on the documents of another folder."""
    script = f"import sys; sys.path.insert(0, {str(TOOL.parent)!r}); import docs_site; from pathlib import Path; "
    script += f"docs_site.REPOSITORY = Path({str(root)!r}); sys.argv[1:] = [{str(out)!r}]; sys.exit(docs_site.main())"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.fixture(autouse=True)
def sphinx() -> None:
    if importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("myst_parser") is None:
        pytest.skip("sphinx is not installed; pip install 'edgeslim[docs]'")


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    (root / "README.md").write_text("# Title\n\n[page](docs/page.md), [licence](LICENSE)\n")
    (root / "LICENSE").write_text("free\n")
    (root / "docs" / "page.md").write_text("# Page\n\n[back](../README.md)\n")
    return root


def test_every_page_of_the_project_is_in_the_site_and_sphinx_warns_of_nothing(tmp_path: Path) -> None:
    done = site(REPOSITORY, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    made = {file.relative_to(tmp_path / "site").with_suffix("") for file in (tmp_path / "site").rglob("*.html")}
    pages = {page.relative_to(REPOSITORY).with_suffix("") for page in (REPOSITORY / "docs").glob("*.md")}
    assert pages | {Path("index"), Path("CONTRIBUTING"), Path("CHANGELOG")} <= made
    assert "docs/model.html" in (tmp_path / "site" / "index.html").read_text()


def test_a_small_site_links_its_pages_and_files(documents: Path, tmp_path: Path) -> None:
    done = site(documents, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert 'href="../index.html"' in (tmp_path / "site" / "docs" / "page.html").read_text()
    assert list((tmp_path / "site").rglob("LICENSE")), "a file that is linked to is not there"


@pytest.mark.parametrize(
    ("page", "text", "complaint"),
    [
        ("docs/page.md", "# Page\n\n[gone](none.md)\n", "docs/page.md links to"),
        ("docs/other.md", "# Other\n", "no page leads to other.md"),
        ("docs/page.md", "# Page\n\n[gone](#nowhere)\n", "nowhere"),
    ],
    ids=["dead link", "orphan", "dead anchor"],
)
def test_what_leads_nowhere_or_is_not_led_to_ends_it(
    documents: Path, tmp_path: Path, page: str, text: str, complaint: str
) -> None:
    (documents / page).write_text(text)
    done = site(documents, tmp_path / "site")
    assert done.returncode == 1, done.stdout
    assert complaint in done.stderr
