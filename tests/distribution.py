"""Which tests one worker runs together, and which come first: those that wait for processes begin, each kind in one
worker, and what computes fills the rest of the machine."""

from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

# What shares servers that take seconds to start, and what takes longest. Everything else goes by the file to whoever is
# free.
_FIRST = (
    "tests/e2e/test_up.py",
    "tests/faults",
    "tests/e2e",
    "tests/browser",
    "tests/bench/test_bench.py",
    "tests/e2e/test_guides.py",
    "tests/contracts/test_schemathesis.py",
)


def kind(nodeid: str) -> str:
    """The folder or file in whose order and company a test runs."""
    file = nodeid.partition("::")[0]
    folder = Path(file).parent.as_posix()
    return folder if folder in _FIRST and file not in _FIRST else file


def place(nodeid: str) -> int:
    """Sorts the tests by it; a stable sort leaves the rest as it is."""
    where = kind(nodeid)
    return _FIRST.index(where) if where in _FIRST else len(_FIRST)


class ByKind(LoadScopeScheduling):
    """Hands out whole kinds, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return kind(nodeid)
