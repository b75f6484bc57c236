"""The catalogue is complete, compiles without gettext's programs, and the pages speak it."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest
from django.conf import settings
from django.template import Engine
from django.urls import reverse
from django.utils.translation.template import templatize

from messagecore.translations import compile_catalogues

CATALOGUE = Path(settings.BASE_DIR) / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
PACKAGES = ("messagecore", "tenants", "quotas", "messaging", "realtime")
MARKERS = {"_", "gettext", "gettext_lazy", "gettext_noop", "pgettext", "pgettext_lazy"}
PLURAL_MARKERS = {"ngettext", "ngettext_lazy"}
PLACEHOLDER = re.compile(r"%\(\w+\)[ds]")


def marked_in(source: str) -> Iterator[str]:
    """The texts that a Python source marks for translation."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        position = 1 if name.startswith("p") else 0
        if name in MARKERS | PLURAL_MARKERS and len(node.args) > position:
            text = node.args[position]
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.value


def marked_in_template(source: str) -> Iterator[str]:
    """The texts of `translate` and `blocktranslate`; templatize turns them into calls amid other text."""
    for call in re.findall(r"(?:\bgettext|(?<!\w)_)\((u?'(?:[^'\\]|\\.)*'|u?\"(?:[^\"\\]|\\.)*\")", templatize(source)):
        yield ast.literal_eval(call)


def every_marked_text() -> set[str]:
    base = Path(settings.BASE_DIR)
    texts: set[str] = set()
    for package in PACKAGES:
        for path in (base / package).rglob("*.py"):
            if "migrations" not in path.parts:
                texts.update(marked_in(path.read_text(encoding="utf-8")))
    for path in (base / "templates").rglob("*.html"):
        texts.update(marked_in_template(path.read_text(encoding="utf-8")))
    return texts


def test_every_text_is_translated():
    translated = {entry.msgid for entry in polib.pofile(str(CATALOGUE)).translated_entries()}
    texts = every_marked_text()
    assert len(texts) > 200
    assert {"Copy the credentials now", "Tenant:", "Lower-case letters, digits and inner hyphens only."} <= texts
    assert sorted(texts - translated) == []


def test_nothing_is_fuzzy_and_every_placeholder_is_kept():
    for entry in polib.pofile(str(CATALOGUE)):
        assert not entry.fuzzy, entry.msgid
        for text in entry.msgstr_plural.values() or [entry.msgstr]:
            assert sorted(PLACEHOLDER.findall(text)) == sorted(PLACEHOLDER.findall(entry.msgid)), entry.msgid


def test_a_catalogue_is_compiled_when_it_is_missing_or_old(tmp_path):
    folder = tmp_path / "zh_Hans" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    source, compiled = folder / "django.po", folder / "django.mo"
    source.write_text('msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "a"\nmsgstr "甲"\n')
    assert compile_catalogues([tmp_path]) == [compiled]
    assert {entry.msgid: entry.msgstr for entry in polib.mofile(str(compiled))} == {"a": "甲"}
    assert compile_catalogues([tmp_path]) == []
    os.utime(compiled, (1, 1))
    assert compile_catalogues([tmp_path]) == [compiled]
    assert sorted(path.name for path in folder.iterdir()) == ["django.mo", "django.po"]


def test_a_sealed_directory_is_said_in_the_log(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "zh_Hans" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "django.po").write_text('msgid "a"\nmsgstr "b"\n')

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert compile_catalogues([tmp_path]) == []
    assert "cannot write django.mo (Permission denied)" in caplog.text


@pytest.mark.parametrize(("language", "words"), [("en", "messages this month"), ("zh-hans", "本月消息")])
def test_pages_speak_the_language_of_the_browser(boss, make_tenant, language, words):
    make_tenant()
    page = boss.get(reverse("admin:tenants_tenant_changelist"), headers={"Accept-Language": language}).content.decode()
    assert words in page.replace("Messages this", "messages this")
    assert f'<html lang="{language}"' in page


def test_the_switch_changes_it_and_stays_on_the_page(boss, make_tenant):
    make_tenant()
    url = reverse("admin:tenants_tenant_changelist")
    response = boss.post(reverse("set_language"), {"language": "zh-hans", "next": url}, follow=True)
    assert response.redirect_chain == [(url, 302)]
    page = response.content.decode()
    assert "本月消息" in page
    assert 'value="en"' in page
    assert 'value="zh-hans"' not in page


def test_every_template_compiles():
    engine = Engine.get_default()
    for path in (Path(settings.BASE_DIR) / "templates" / "admin").rglob("*.html"):
        engine.get_template(str(path.relative_to(Path(settings.BASE_DIR) / "templates")))
