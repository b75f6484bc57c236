"""`manage.py render_reference`: writes docs/reference again."""

from typing import Any

from django.core.management.base import BaseCommand

from messagecore.reference import FOLDER, PAGES


class Command(BaseCommand):
    help = "Write the pages of docs/reference from the routes and roles that run."

    def handle(self, *args: Any, **options: Any) -> None:
        for name, render in PAGES.items():
            (FOLDER / name).write_text(render(), encoding="utf-8")
