"""Searching messages: what the index finds, held to what the messages say now."""

from collections.abc import Sequence
from dataclasses import dataclass

from messaging.queries import search as queries
from messaging.queries.messages import MessageView, get_messages
from messaging.queries.search import Place, Search
from messaging.search.highlights import Highlight, highlights


@dataclass(frozen=True, slots=True)
class Result:
    """A message and where in it the words are."""

    message: MessageView
    highlights: Sequence[Highlight]


def search_messages(search: Search, *, before: Place | None, limit: int) -> list[Result]:
    """Up to `limit` messages behind `before`, newest first by (created_at, id).

    Two statements (three with reactions) beside the reader's conversations where the newest entries fill the page. What
    was edited or deleted since it was indexed is left out, and looked for further on.
    """
    results: list[Result] = []
    while len(results) < limit:
        asked = limit - len(results)
        places = queries.find(search, before=before, limit=asked)
        views = get_messages([place.message_id for place in places], viewer_id=search.reader_id) if places else {}
        for place in places:
            view = views.get(place.message_id)
            if view is not None and view.deleted_at is None:
                shown = highlights(search.wanted, view.content)
                if shown is not None:
                    results.append(Result(view, shown))
        if len(places) < asked:
            break
        before = places[-1]
    return results
