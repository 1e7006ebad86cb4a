"""Build a site of the documentation: the README and every page that it leads to.

    python tools/docs_site.py [OUT]

OUT (default site/) holds index.html afterwards. Strict: a link that leads nowhere, a page of docs/ to which none leads,
and whatever Sphinx warns of end it with exit code 1. `tools/docs` installs Sphinx first.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)]*)?\)")
CONF = """\
project = "edgeslim"
extensions = ["myst_parser"]
html_theme = "alabaster"
html_theme_options = {"description": "CNNs compressed for one device", "page_width": "72rem", "sidebar_width": "16rem"}
html_show_copyright = False
myst_heading_anchors = 4
"""


def pages_of(root: Path) -> list[Path]:
    """Return the README and every page that it leads to, in the order of the links; ValueError names a dead link."""
    found: list[Path] = []
    waiting = [root / "README.md"]
    while waiting:
        page = waiting.pop(0)
        if page in found:
            continue
        found.append(page)
        for target in targets_of(page):
            if not target.exists():
                raise ValueError(f"{page.relative_to(root)} links to {target}, which is not there")
            if target.suffix == ".md" and target.is_relative_to(root):
                waiting.append(target)
    orphans = sorted(page.name for page in (root / "docs").glob("*.md") if page not in found)
    if orphans:
        raise ValueError(f"no page leads to {', '.join(orphans)}")
    return found


def targets_of(page: Path) -> list[Path]:
    """Return the files that a page links to."""
    return [(page.parent / target).resolve() for target, _ in LINK.findall(page.read_text(encoding="utf-8"))]


def stage(root: Path, folder: Path) -> None:
    """Write what Sphinx reads: the pages where they lie, the README as the index, and the other files they link to."""
    pages = pages_of(root)
    for page in pages:
        for target in (page, *targets_of(page)):
            copy = folder / target.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if target.is_file():
                shutil.copyfile(target, copy)
    for page in pages:
        copy = folder / page.relative_to(root)
        text = copy.read_text(encoding="utf-8")
        copy.write_text(LINK.sub(partial(_in_the_site, root, page), text), encoding="utf-8")
    tree = "\n".join(str(page.relative_to(root).with_suffix("")) for page in pages[1:])
    readme = (folder / "README.md").read_text(encoding="utf-8")
    (folder / "index.md").write_text(f"{readme}\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n", encoding="utf-8")
    (folder / "README.md").unlink()
    (folder / "conf.py").write_text(CONF, encoding="utf-8")


def _in_the_site(root: Path, page: Path, link: "re.Match[str]") -> str:
    """Return a link as it leads in the site: to the index in place of the README; to no folder, which is no page."""
    target = (page.parent / link[1]).resolve()
    if target == root / "README.md":
        return link[0].replace("README.md", "index.md")
    return "]" if target.is_dir() else link[0]


def build(root: Path, out: Path) -> int:
    """Build the site of a repository's documents into `out`; return Sphinx's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        stage(root, Path(folder))
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", folder, str(out)]
        return subprocess.run(command, check=False).returncode


def main() -> int:
    """Build the site and say where it is."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "site"
    try:
        code = build(REPOSITORY, out)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if code == 0:
        sys.stdout.write(f"{out / 'index.html'}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
