"""How the index writes what a message is found by, as `tsvector`, and what is asked of it, as `tsquery`.

A message's vector holds its words; of its runs every character and every pair of neighbours; and, as lexemes that no
text can make, what search filters by: conversation, sender, type and time. So one GIN index answers words and filters
together, and goes through the rarest of them.

A pair has positions: a run of three characters and more is asked for as pairs behind each other. A vector keeps 255
positions of a lexeme and none from 16,383 on. One that had more says so, and is then found by the pairs alone: whoever
reads the index holds what it finds to the text.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from messaging.search.words import Kind, Wanted, tokens

MAX_POSITION = 16_382
MAX_POSITIONS = 255

_FILTER = "\x01"
"""No text makes a lexeme that begins with it: words and runs hold letters, marks and digits alone."""
_INCOMPLETE = f"{_FILTER}p"

TIME_LEVELS = (24, 20, 16, 12, 8)
"""Each message is in one bucket of each of these widths, in powers of two seconds: 194 days to 4 minutes."""
MAX_BUCKETS = 18


def conversation(conversation_id: UUID) -> str:
    return f"{_FILTER}c{conversation_id.hex}"


def sender(sender_id: UUID) -> str:
    return f"{_FILTER}s{sender_id.hex}"


def message_type(name: str) -> str:
    return f"{_FILTER}t{name}"


def _bucket(level: int, number: int) -> str:
    return f"{_FILTER}d{level}:{number:x}"


def _seconds(at: datetime) -> int:
    # Not the float of timestamp(), which is not exact far from 1970.
    return (at - _EPOCH) // timedelta(seconds=1)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def times(at: datetime) -> list[str]:
    """The buckets that a message of this time is in."""
    return [_bucket(level, _seconds(at) >> level) for level in TIME_LEVELS]


def between(first: datetime, last: datetime) -> list[str]:
    """Buckets of which every time from `first` to `last` is in one, at most MAX_BUCKETS; none: the stretch is too long
    for any, ask without."""
    for level in reversed(TIME_LEVELS):
        low, high = _seconds(first) >> level, _seconds(last) >> level
        if high - low < MAX_BUCKETS:
            return [_bucket(level, number) for number in range(low, high + 1)]
    return []


def vector(texts: Iterable[str], filters: Sequence[str]) -> str | None:
    """The `tsvector` of a message, in PostgreSQL's notation; None if its texts hold nothing to be found by."""
    places: dict[str, list[int]] = {}
    is_incomplete = False
    position = 0
    for text in texts:
        for token in tokens(text):
            if token.kind is Kind.WORD:
                places.setdefault(token.word, [])
                continue
            position += 1  # what is not behind each other in the text is not in the vector either
            for character in token.characters:
                places.setdefault(character, [])
            for pair in _pairs(token.characters):
                position += 1
                known = places.setdefault(pair, [])
                if position > MAX_POSITION or len(known) == MAX_POSITIONS:
                    is_incomplete = True
                else:
                    known.append(position)
    if not places:
        return None
    filters = [*filters, _INCOMPLETE] if is_incomplete else filters
    return " ".join(
        [
            *(_quoted(name) for name in filters),
            *(
                f"{_quoted(lexeme)}:{','.join(map(str, known))}" if known else _quoted(lexeme)
                for lexeme, known in places.items()
            ),
        ]
    )


def query(wanted: Wanted, *filters: Sequence[str]) -> str:
    """The `tsquery` for all that is wanted and, of each of the filters that has any, one."""
    parts = [_quoted(word) for word in wanted.words]
    parts += [_asked(run) for run in wanted.runs]
    parts += ["(" + " | ".join(map(_quoted, names)) + ")" for names in filters if names]
    return " & ".join(parts)


def _asked(run: str) -> str:
    pairs = [_quoted(pair) for pair in _pairs(run)]
    if len(pairs) < 2:
        return pairs[0] if pairs else _quoted(run)
    return f"(({' <-> '.join(pairs)}) | ({_quoted(_INCOMPLETE)} & {' & '.join(dict.fromkeys(pairs))}))"


def _pairs(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(len(run) - 1)]


def _quoted(lexeme: str) -> str:
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def filters_of(*, conversation_id: UUID, sender_id: UUID | None, type_: str, created_at: datetime) -> list[str]:
    """What a message is filtered by."""
    senders = [] if sender_id is None else [sender(sender_id)]
    return [conversation(conversation_id), *senders, message_type(type_), *times(created_at)]
