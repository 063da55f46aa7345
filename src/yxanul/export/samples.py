"""The texts on which an export is compared with the model: prompts, and what tokenizers trip over.

They are fixed, so that two exports' figures compare. Held-out text of the run is read beside them
where it is still there.
"""

PROMPTS = (
    "The city of Lisbon lies on the Tagus, and its harbour",
    "def mean(values):\n    return sum(values) / len(values)\n\n\ndef median(values):\n",
    "Question: A train travels 60 km in 45 minutes. How fast is it?\nAnswer: 60 / 0.75 =",
    "Die Bäume am Fluß blühen früh; 東京は日本の首都です。 Москва — столица России.",
)
"""One of each kind of text that the stages hold, and one that they do not."""

STRESS = (
    "plain words, and words",
    " leading and trailing ",
    "tabs\tand\t\ttabs, lines\nand\n\n\nlines\r\nof two kinds\r",
    "    four spaces        eight\n\tdef f(x):\n\t\treturn x  # done   \n",
    "it's they'll we've I'm you'd he's IT'S They'LL",
    "1 12 123 1234 12345 3.14159 1,000,000 0x1F600 1e-9 ½ ² ٣ 三",
    "!?.,;:-_()[]{}<>@#$%^&*+=|\\/~`'\"",
    "éèêëñçåøß ÀÉÎÕÜ e\u0301 n\u0303 ﬁ ﬂ",
    "Привет, мир! Ελληνικά. עברית. العربية. हिन्दी. ไทย. 한국어. 日本語。中文。",
    "😀👍🏽👩‍👩‍👧‍👦🇵🇹 ❤️ ☕️",
    "zero\u200bwidth\u200djoiner\ufeffbom\u00a0no-break\u3000wide",
    "\x00\x01\x07\x1b[31m\x7f\u0085\u2028\u2029",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "SolidGoldMagikarp  petertodd  TheNitromeFan",
    "",
    " ",
    "\n",
    "'",
)
"""Texts whose ids must be the model's own, each by itself."""
