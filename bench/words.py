"""What the messages say: English and Chinese of about the frequencies that people's words have.

Words are drawn by Zipf's law from made-up vocabularies. Beside them stand four words that no vocabulary has, which the
searches ask for: one of each language that is in about 30 % of all messages, and one that is in RARE_MESSAGES.
"""

import itertools
import random
from collections.abc import Sequence

COMMON = {"en": "order", "zh": "订单"}
RARE = {"en": "quetzal", "zh": "琥珀"}
RARE_MESSAGES = 3

_COMMON_SHARE = 0.6
"""Of the messages in a language; each language has half of the messages."""
_ENGLISH_WORDS = 8_000
_CHINESE_WORDS = 6_000
_SYLLABLES = "ba de ki lo mu na pe ri so tu va we xi yo za chi dra fle gro sta tri pla qui sho thu ber con dal fen gar"
_CHARACTERS = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成"
    "方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使"
    "情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老"
)


class Texts:
    """An endless supply of messages, the same for the same `seed`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._english = _english()
        self._chinese = _chinese()
        self._english_weights = _zipf(len(self._english))
        self._chinese_weights = _zipf(len(self._chinese))

    def text(self, *, rare: bool = False) -> str:
        """The next message; `rare`: with the rare words in it."""
        draw = self._random
        is_chinese = draw.random() < 0.5
        if is_chinese:
            words = draw.choices(self._chinese, cum_weights=self._chinese_weights, k=draw.randint(3, 14))
        else:
            words = draw.choices(self._english, cum_weights=self._english_weights, k=draw.randint(3, 16))
        if draw.random() < _COMMON_SHARE:
            words[draw.randrange(len(words))] = COMMON["zh" if is_chinese else "en"]
        if is_chinese:
            text = "".join(words[: len(words) // 2]) + "，" + "".join(words[len(words) // 2 :])
        else:
            text = " ".join(words)
        return f"{text} {RARE['en']} {RARE['zh']}" if rare else text


def _english() -> Sequence[str]:
    syllables = _SYLLABLES.split()
    made = ("".join(parts) for count in (1, 2, 3) for parts in itertools.product(syllables, repeat=count))
    words = [word for word in itertools.islice(made, _ENGLISH_WORDS) if word not in {COMMON["en"], RARE["en"]}]
    random.Random(1).shuffle(words)
    return words


def _chinese() -> Sequence[str]:
    pairs = ["".join(pair) for pair in itertools.permutations(dict.fromkeys(_CHARACTERS), 2)]
    return random.Random(2).sample(pairs, _CHINESE_WORDS)


def _zipf(count: int) -> Sequence[float]:
    """Cumulative weights: the n-th word is 1/n as frequent as the first, bent at the top, where half of all text would
    be one word."""
    return list(itertools.accumulate(1 / (rank + 10) for rank in range(count)))
