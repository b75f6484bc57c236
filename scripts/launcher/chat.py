"""`scripts/chat`, its second half: what the command line says, then one of the two faces of the client."""

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress

from scripts.launcher.console import fail
from scripts.launcher.failures import LauncherError
from scripts.launcher.home import home_from_environment
from scripts.terminal.account import Wishes, account_from
from scripts.terminal.interactive import Conversation, run_interactive
from scripts.terminal.lines import Style, wants_colour
from scripts.terminal.link import Link
from scripts.terminal.raw import OutputClosed, RawWatcher, run_raw

_EPILOG = """\
Without options it speaks as the first user of the demo tenant of a running scripts/up. --key may also come from
MESSAGECORE_API_KEY, --token from MESSAGECORE_TOKEN, --url from MESSAGECORE_URL: other people on this machine can read
a command's arguments, but not its environment.
"""


def main(arguments: Sequence[str]) -> int:
    """Returns 0 when the person or the input ended it, 1 when it cannot go on; the message is printed then."""
    options = _parse(arguments)
    try:
        asyncio.run(_run(options))
    except LauncherError as error:
        return fail(error)
    except KeyboardInterrupt:
        return 130
    except OutputClosed:
        # Python would complain once more when it flushes at its end.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


async def _run(options: argparse.Namespace) -> None:
    wishes = Wishes(
        url=options.url, key=options.key, token=options.token, user=options.user, conversation=options.conversation
    )
    account = account_from(wishes, env=os.environ, home=home_from_environment())
    if options.raw:
        # Only what was asked for: nobody reads along who would be shown the demo's conversation.
        await run_raw(Link(account, RawWatcher()), conversation=options.conversation, follow=options.follow)
        return
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    screen = Conversation(Style(colour=wants_colour(terminal=terminal), full=options.full, width=width))
    await run_interactive(Link(account, screen), screen, conversation=account.conversation)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/chat",
        description="Chat in the terminal, and see every frame of the socket as it passes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", help="where the server is, such as http://127.0.0.1:8000")
    parser.add_argument("--key", help="an API key of either kind")
    parser.add_argument("--token", help="a user token")
    parser.add_argument("--user", metavar="ID", help="whom to make a token for; needs a secret key, or the demo")
    parser.add_argument("--conversation", metavar="ID", help="the conversation to enter")
    parser.add_argument("--full", action="store_true", help="the whole JSON of every frame below its line")
    parser.add_argument(
        "--raw", action="store_true", help="JSON lines only: standard input to socket to standard output"
    )
    parser.add_argument("--follow", action="store_true", help="with --raw: stay when the input ends")
    options = parser.parse_args(arguments)
    if options.follow and not options.raw:
        parser.error("--follow goes with --raw")
    if options.full and options.raw:
        parser.error("--raw is whole JSON already")
    return options


def _entry() -> int:
    # Text of any script, whatever the locale says.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(_entry())
