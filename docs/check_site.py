"""Check the built site, which Sphinx does not: ``make docs`` does it, without a network.

A page loads nothing from elsewhere, so it can be read from files. It fits a phone. Links that lead
elsewhere have the form of one; they are listed in links.txt, and `make linkcheck` asks for them.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

# Elements that load what their attribute names, and the attribute.
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
# What a <link> only points to.
POINTERS = {"index", "search", "next", "prev", "canonical", "author"}
ADDRESS = re.compile(
    r"https://[a-z0-9-]+(\.[a-z0-9-]+)+(/[\w.~%!$&'()*+,;=:@/-]*)?(\?[^#\s]+)?(#\S+)?"
)


class Page(HTMLParser):
    """What a page loads, where it links to, and whether it says how wide it wants to be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.fits_phones = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Take up what is in one element."""
        has = {name: value or "" for name, value in attributes}
        if tag == "a":
            self.links.append(has.get("href", ""))
        elif tag == "meta" and has.get("name") == "viewport":
            self.fits_phones = "width=device-width" in has.get("content", "")
        elif LOADS.get(tag, "") in has and has.get("rel") not in POINTERS:
            self.loads.append(has[LOADS[tag]])


def is_elsewhere(address: str) -> bool:
    """Return whether it is on another host."""
    return address.startswith("//") or re.match(r"[a-z]+:", address) is not None


def problems(site: Path, elsewhere: dict[str, set[str]]) -> Iterator[str]:
    """Yield what is wrong; `elsewhere` gets the links to other hosts, and their pages."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        yield f"no pages in {site}"
    for path in pages:
        name, page = str(path.relative_to(site)), Page(path.read_text())
        if not page.fits_phones:
            yield f"{name}: no viewport"
        yield from (f"{name} loads {each}" for each in page.loads if is_elsewhere(each))
        for link in filter(is_elsewhere, page.links):
            elsewhere[link].add(name)
            if not link.startswith("mailto:") and not ADDRESS.fullmatch(link):
                yield f"{name} links to {link}"
    for path in sorted(site.rglob("*.css")):
        loads = re.findall(
            r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')\s]+)", path.read_text()
        )
        yield from (f"{path.relative_to(site)} loads {each}" for each in loads)


def main() -> None:
    """Check the site in the directory that is named."""
    site = Path(sys.argv[1])
    elsewhere: dict[str, set[str]] = defaultdict(set)
    found = list(problems(site, elsewhere))
    lines = (f"{link}  {' '.join(sorted(pages))}\n" for link, pages in sorted(elsewhere.items()))
    (site.parent / "links.txt").write_text("".join(lines))
    sys.exit("\n".join(found) or 0)


if __name__ == "__main__":
    main()
