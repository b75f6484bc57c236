"""API keys, platform tokens and domains in the admin."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tenants.models import ApiKey, Domain, PlatformToken
from tenants.services.authentication import authenticate_key, authenticate_platform_token
from tenants.services.domains import PrimaryDomain, remove_domain
from tenants.services.keys import create_api_key, create_platform_token

NOW = datetime.now(UTC)
KEYS = reverse("admin:tenants_apikey_changelist")
ADD_KEY = reverse("admin:tenants_apikey_add")
TOKENS = reverse("admin:tenants_platformtoken_changelist")
ADD_TOKEN = reverse("admin:tenants_platformtoken_add")
DOMAINS = reverse("admin:tenants_domain_changelist")
ADD_DOMAIN = reverse("admin:tenants_domain_add")
MARKUP = "<img src=x onerror=alert(1)>"


def key_form(tenant, /, **changes):
    form = {"tenant": tenant.pk, "kind": "secret", "name": "orders", "scopes": "", "allowed_networks": ""}
    return form | {"expires_at_0": "", "expires_at_1": ""} | changes


def url_of(key: ApiKey, verb: str = "change") -> str:
    return reverse(f"admin:tenants_apikey_{verb}", args=[key.pk])


class TestApiKeys:
    def test_a_new_key_is_shown_once_and_works(self, boss, make_tenant):
        tenant = make_tenant()
        form = key_form(
            tenant,
            scopes="messages:write\r\nusers:*\r\nmessages:write",
            allowed_networks="10.0.0.0/8\r\n2001:DB8::1",
            expires_at_0="2099-01-31",
            expires_at_1="12:00:00",
        )
        response = boss.post(ADD_KEY, form)
        assert response.status_code == 200
        value = response.context["credentials"][0].value
        assert response.content.decode().count(value) == 1
        assert "no-store" in response["Cache-Control"]
        key = ApiKey.objects.get(name="orders")
        assert (key.tenant, key.kind, value[:12]) == (tenant, "secret", key.prefix)
        assert key.scopes == ["messages:write", "users:*"]
        assert key.expires_at == datetime(2099, 1, 31, 12, tzinfo=UTC)
        card = authenticate_key(value, now=NOW, host="", address="10.1.2.3", origin=None)
        assert card.allowed_networks == (ip_network("10.0.0.0/8"), ip_network("2001:db8::1/128"))
        seen = [boss.get(url).content.decode() for url in (KEYS, url_of(key))]
        seen += [repr([session.get_decoded() for session in Session.objects.all()]), repr(LogEntry.objects.values())]
        assert all(value not in text for text in seen)
        assert LogEntry.objects.get().object_id == str(key.pk)

    @pytest.mark.parametrize(
        ("field", "changes"),
        [
            ("tenant", {"tenant": "00000000-0000-0000-0000-000000000000"}),
            ("tenant", {"tenant": "x"}),
            ("kind", {"kind": "root"}),
            ("name", {"name": ""}),
            ("name", {"name": "x" * 256}),
            ("scopes", {"scopes": "messages:write\r\neverything"}),
            ("scopes", {"scopes": "messages:\0"}),
            ("allowed_networks", {"allowed_networks": "10.0.0.1/8"}),
            ("allowed_networks", {"allowed_networks": "localhost"}),
            ("expires_at", {"expires_at_0": "2001-01-01", "expires_at_1": "00:00"}),
            ("expires_at", {"expires_at_0": "soon", "expires_at_1": ""}),
        ],
    )
    def test_bad_values_are_said_at_their_field_and_make_nothing(self, boss, make_tenant, field, changes):
        tenant = make_tenant()
        response = boss.post(ADD_KEY, key_form(tenant, **changes))
        assert response.status_code == 200
        assert list(response.context["adminform"].form.errors) == [field]
        assert ApiKey.objects.count() == 2

    def test_a_tenant_named_in_the_address_is_chosen_and_nonsense_is_not(self, boss, make_tenant):
        tenant = make_tenant(name="Golden")
        assert "Golden" in boss.get(ADD_KEY, {"tenant": str(tenant.pk)}).content.decode()
        for nonsense in ("x", "\0", "00000000-0000-0000-0000-000000000000"):
            response = boss.get(ADD_KEY, {"tenant": nonsense})
            assert response.status_code == 200
            assert "Golden" not in response.content.decode()

    def test_the_line_at_fault_is_named(self, boss, make_tenant):
        response = boss.post(ADD_KEY, key_form(make_tenant(), allowed_networks="10.0.0.0/8\r\n\r\nnonsense"))
        assert "Line 3: not an address or network" in response.content.decode()

    def test_revoking_asks_first_and_cannot_be_taken_back(self, boss, make_tenant):
        tenant = make_tenant()
        key = ApiKey.objects.get(kind="secret")
        assert url_of(key, "revoke") in boss.get(url_of(key)).content.decode()
        assert "cannot be taken back" in boss.get(url_of(key, "revoke")).content.decode()
        assert ApiKey.objects.get(pk=key.pk).revoked_at is None
        boss.post(url_of(key, "revoke"))
        revoked_at = ApiKey.objects.get(pk=key.pk).revoked_at
        assert revoked_at is not None
        assert url_of(key, "revoke") not in boss.get(url_of(key)).content.decode()
        boss.post(url_of(key, "revoke"))
        assert ApiKey.objects.get(pk=key.pk).revoked_at == revoked_at
        assert ApiKey.objects.get(kind="publishable", tenant=tenant).revoked_at is None
        assert LogEntry.objects.values_list("object_id", "change_message")[0] == (str(key.pk), "Revoked.")

    def test_in_bulk_it_asks_first(self, boss, make_tenant):
        make_tenant()
        keys = list(ApiKey.objects.all())
        data = {"action": "revoke_selected", "_selected_action": [key.pk for key in keys]}
        asked = boss.post(KEYS, data)
        assert all(key.prefix in asked.content.decode() for key in keys)
        assert ApiKey.objects.filter(revoked_at=None).count() == 2
        boss.post(KEYS, data | {"confirmed": "1"})
        assert not ApiKey.objects.filter(revoked_at=None).exists()

    def test_nothing_of_a_key_is_edited_or_deleted(self, boss, make_tenant):
        make_tenant()
        key = ApiKey.objects.get(kind="secret")
        before = list(ApiKey.objects.order_by("id").values())
        assert boss.post(url_of(key), key_form(key.tenant, name="X", digest="x", scopes="*")).status_code == 403
        assert boss.post(url_of(key, "delete"), {"post": "yes"}).status_code == 403
        boss.post(KEYS, {"action": "delete_selected", "_selected_action": [key.pk], "post": "yes"})
        assert list(ApiKey.objects.order_by("id").values()) == before

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("?q=acme", ["default", "default"]),
            ("?kind__exact=publishable", ["default", "gone", "old"]),
            ("?state=revoked", ["gone"]),
            ("?state=expired", ["old"]),
            ("?state=working", ["default", "default"]),
            ("?state=nonsense", ["default", "default", "gone", "old"]),
            ("?q=OLD", ["old"]),
            ("?q=%00", ["default", "default", "gone", "old"]),
        ],
    )
    def test_search_and_filters(self, boss, make_tenant, query, names):
        make_tenant()
        other = make_tenant("other", name="Other")
        ApiKey.objects.filter(tenant=other, kind="secret").delete()
        ApiKey.objects.filter(tenant=other).update(name="gone", revoked_at=NOW)
        create_api_key(tenant=other, kind="publishable", name="old", expires_at=NOW - timedelta(days=1))
        found = boss.get(KEYS + query).context["cl"].result_list
        assert sorted(key.name for key in found) == names

    def test_the_shown_prefix_finds_its_key(self, boss, make_tenant):
        make_tenant()
        key = ApiKey.objects.get(kind="secret")
        for query in (key.prefix, f"{key.prefix}…"):
            assert list(boss.get(KEYS, {"q": query}).context["cl"].result_list) == [key]

    def test_the_number_of_queries_does_not_grow_with_rows(self, boss, make_tenant):
        def queries() -> int:
            with CaptureQueriesContext(connection) as captured:
                assert boss.get(KEYS).status_code == 200
            return len(captured)

        make_tenant("t0")
        queries()
        few = queries()
        for number in range(1, 6):
            make_tenant(f"t{number}")
        assert queries() == few
        assert few <= 8

    def test_names_with_markup_are_text(self, boss, make_tenant):
        tenant = make_tenant(name=MARKUP)
        made = boss.post(ADD_KEY, key_form(tenant, name=MARKUP))
        key = ApiKey.objects.get(name=MARKUP)
        for page in (made, boss.get(KEYS), boss.get(url_of(key)), boss.get(url_of(key, "revoke"))):
            assert MARKUP not in page.content.decode()
            assert "&lt;img src=x" in page.content.decode()

    def test_permissions(self, staff, make_tenant):
        tenant = make_tenant()
        key = ApiKey.objects.get(kind="secret")
        nobody, viewer = staff(), staff("tenants.view_apikey")
        assert nobody.get(KEYS).status_code == 403
        assert nobody.get(url_of(key)).status_code == 403
        assert viewer.get(url_of(key)).status_code == 200
        for client in (nobody, viewer):
            assert client.get(ADD_KEY).status_code == 403
            assert client.post(ADD_KEY, key_form(tenant)).status_code == 403
            assert client.get(url_of(key, "revoke")).status_code == 403
            assert client.post(url_of(key, "revoke")).status_code == 403
            data = {"action": "revoke_selected", "_selected_action": [key.pk], "confirmed": "1"}
            client.post(KEYS, data)
        maker = staff("tenants.add_apikey", "tenants.view_tenant")
        assert maker.post(url_of(key, "revoke")).status_code == 403
        assert ApiKey.objects.filter(revoked_at=None).count() == 2
        assert maker.post(ADD_KEY, key_form(tenant)).status_code == 200
        revoker = staff("tenants.change_apikey", "tenants.view_apikey", "tenants.view_tenant")
        assert revoker.post(ADD_KEY, key_form(tenant)).status_code == 403
        assert revoker.post(url_of(key, "revoke")).status_code == 302
        assert ApiKey.objects.filter(revoked_at=None).count() == 2

    def test_tenants_are_offered_to_those_who_may_see_them(self, staff, make_tenant):
        tenant = make_tenant()
        offer = reverse("admin:autocomplete")
        query = {"app_label": "tenants", "model_name": "apikey", "field_name": "tenant", "term": "acm"}
        assert staff("tenants.add_apikey").get(offer, query).status_code == 403
        offered = staff("tenants.add_apikey", "tenants.view_tenant").get(offer, query).json()
        assert offered["results"] == [{"id": str(tenant.pk), "text": "Acme"}]


class TestPlatformTokens:
    def test_a_new_token_is_shown_once_works_and_is_revoked(self, boss):
        form = {"name": "deploy", "scopes": "tenants:read", "expires_at_0": "", "expires_at_1": ""}
        response = boss.post(ADD_TOKEN, form)
        value = response.context["credentials"][0].value
        assert response.content.decode().count(value) == 1
        assert "no-store" in response["Cache-Control"]
        caller = authenticate_platform_token(value, now=NOW)
        assert (caller.name, caller.scopes) == ("deploy", frozenset({"tenants:read"}))
        token = PlatformToken.objects.get()
        assert token.created_by == response.wsgi_request.user
        assert value not in boss.get(TOKENS).content.decode()
        boss.post(reverse("admin:tenants_platformtoken_revoke", args=[token.pk]))
        assert PlatformToken.objects.get().revoked_at is not None

    def test_permissions(self, staff):
        made = create_platform_token(name="x")
        client = staff("tenants.view_platformtoken")
        assert client.get(TOKENS).status_code == 200
        form = {"name": "mine", "scopes": "", "expires_at_0": "", "expires_at_1": ""}
        assert client.post(ADD_TOKEN, form).status_code == 403
        assert client.post(reverse("admin:tenants_platformtoken_revoke", args=[made.id])).status_code == 403
        assert client.post(reverse("admin:tenants_platformtoken_delete", args=[made.id])).status_code == 403
        assert staff().get(TOKENS).status_code == 403
        assert list(PlatformToken.objects.values_list("name", "revoked_at")) == [("x", None)]

    def test_names_with_markup_are_text(self, boss):
        form = {"name": MARKUP, "scopes": "", "expires_at_0": "", "expires_at_1": ""}
        made = boss.post(ADD_TOKEN, form)
        change = reverse("admin:tenants_platformtoken_change", args=[PlatformToken.objects.get().pk])
        for page in (made, boss.get(TOKENS), boss.get(change)):
            assert MARKUP not in page.content.decode()
            assert "&lt;img src=x" in page.content.decode()


class TestDomains:
    def test_added_normalised_and_never_primary(self, boss, make_tenant):
        tenant = make_tenant()
        response = boss.post(ADD_DOMAIN, {"tenant": tenant.pk, "domain": " Chat.Example.COM. "})
        assert response.status_code == 302
        shown = dict(Domain.objects.values_list("domain", "is_primary"))
        assert shown == {"acme.localhost": True, "chat.example.com": False}

    @pytest.mark.parametrize(
        "host",
        [
            "",
            "localhost",
            "other.localhost",
            "a..b",
            "-a.example",
            "a.example:80",
            "https://a.example",
            "203.0.113.7",
            "::1",
            "*.example",
            "a_b.example",
            "中文.example",
            "a.example/x",
            f"{'a' * 64}.example",
            "a\x00.example",
            ".".join(["abcdefgh"] * 29),
        ],
    )
    def test_what_is_no_host_of_a_tenant_is_refused(self, boss, make_tenant, host):
        response = boss.post(ADD_DOMAIN, {"tenant": make_tenant().pk, "domain": host})
        assert list(response.context["adminform"].form.errors) == ["domain"]
        assert Domain.objects.count() == 1

    def test_a_taken_one_is_refused_in_any_spelling(self, boss, make_tenant):
        one, two = make_tenant("one"), make_tenant("two")
        boss.post(ADD_DOMAIN, {"tenant": one.pk, "domain": "chat.example.com"})
        response = boss.post(ADD_DOMAIN, {"tenant": two.pk, "domain": "CHAT.example.com"})
        assert list(response.context["adminform"].form.errors) == ["domain"]
        assert Domain.objects.get(domain="chat.example.com").tenant == one

    def test_deleted_but_not_the_primary(self, boss, make_tenant):
        tenant = make_tenant()
        boss.post(ADD_DOMAIN, {"tenant": tenant.pk, "domain": "chat.example.com"})
        primary, other = Domain.objects.get(is_primary=True), Domain.objects.get(is_primary=False)

        def delete(domain):
            return boss.post(reverse("admin:tenants_domain_delete", args=[domain.pk]), {"post": "yes"})

        assert delete(primary).status_code == 403
        assert delete(other).status_code == 302
        boss.post(DOMAINS, {"action": "delete_selected", "_selected_action": [primary.pk], "post": "yes"})
        assert list(Domain.objects.all()) == [primary]
        with pytest.raises(PrimaryDomain):
            remove_domain(domain=primary)

    def test_one_that_became_primary_meanwhile_is_words_not_an_error(self, boss, make_tenant, monkeypatch):
        domain = Domain.objects.create(tenant=make_tenant(), domain="chat.example.com", is_primary=False)

        def lose_the_race(*, domain):
            raise PrimaryDomain

        monkeypatch.setattr("tenants.admin.domains.remove_domain", lose_the_race)
        url = reverse("admin:tenants_domain_delete", args=[domain.pk])
        response = boss.post(url, {"post": "yes"}, follow=True)
        assert "does not allow this any more" in response.content.decode()
        assert Domain.objects.filter(pk=domain.pk).exists()

    def test_search_and_permissions(self, boss, staff, make_tenant):
        tenant = make_tenant()
        make_tenant("other", name="Other")
        found = boss.get(DOMAINS, {"q": "acme"}).context["cl"].result_list
        assert [domain.domain for domain in found] == ["acme.localhost"]
        viewer = staff("tenants.view_domain")
        assert viewer.get(DOMAINS).status_code == 200
        assert viewer.post(ADD_DOMAIN, {"tenant": tenant.pk, "domain": "a.example"}).status_code == 403
        domain = Domain.objects.create(tenant=tenant, domain="b.example", is_primary=False)
        assert viewer.post(reverse("admin:tenants_domain_delete", args=[domain.pk]), {"post": "yes"}).status_code == 403
        assert staff().get(DOMAINS).status_code == 403
        assert Domain.objects.count() == 3
