"""Tenants and plans in the admin: through the pages, as staff use them."""

from datetime import UTC, datetime

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from quotas.models import MonthlyUsage, Plan, Subscription
from quotas.services.accounts import change_plan
from quotas.services.limits import read_limits
from quotas.services.metering import month_of
from tenants import secrets
from tenants.models import ApiKey, Domain, Tenant, TenantStatus, TokenSecret
from tenants.services.authentication import authenticate_key
from tenants.services.lifecycle import change_status

LIST = reverse("admin:tenants_tenant_changelist")
ADD = reverse("admin:tenants_tenant_add")
NOW = datetime.now(UTC)
MARKUP = "<script>alert(1)</script>"


def change_url(tenant: Tenant) -> str:
    return reverse("admin:tenants_tenant_change", args=[tenant.pk])


def form_of(tenant: Tenant, **changes: str) -> dict[str, str]:
    """What the browser posts when the form is saved as it is, with changes."""
    limits = Subscription.objects.get(tenant=tenant)
    overrides = ("max_users", "max_messages", "retention_days", "max_storage_bytes", "max_connections")
    shown = {name: "" if getattr(limits, name) is None else str(getattr(limits, name)) for name in overrides}
    inlines = {f"{prefix}-{field}_FORMS": "0" for prefix in ("api_keys", "domains") for field in ("TOTAL", "INITIAL")}
    origins = "\r\n".join(tenant.allowed_origins)
    return {"name": tenant.name, "plan_type": limits.plan_id, "allowed_origins": origins} | shown | inlines | changes


class TestCreating:
    def test_the_page_behind_the_form_shows_working_credentials_once(self, boss):
        response = boss.post(ADD, {"name": "Gold Mall", "subdomain": "gold-mall", "plan_type": "pro"})
        assert response.status_code == 200
        tenant = Tenant.objects.get(subdomain="gold-mall")
        assert (tenant.name, tenant.status, read_limits(tenant.id).plan_type) == ("Gold Mall", "active", "pro")
        shown = {credential.label: credential.value for credential in response.context["credentials"]}
        page = response.content.decode()
        assert all(page.count(value) == 1 for value in shown.values())
        key = authenticate_key(shown["API key"], now=NOW, host="", address=None, origin=None)
        assert (key.tenant.id, key.is_secret) == (tenant.id, True)
        publishable = authenticate_key(shown["Publishable key"], now=NOW, host="", address=None, origin=None)
        assert (publishable.tenant.id, publishable.is_secret) == (tenant.id, False)
        assert secrets.decrypt(TokenSecret.objects.get(tenant=tenant).ciphertext) == shown["Token secret"]
        for directive in ("no-store", "no-cache", "private"):
            assert directive in response["Cache-Control"]

        again = boss.get(change_url(tenant)).content.decode()
        listed = boss.get(LIST).content.decode()
        sessions = repr([session.get_decoded() for session in Session.objects.all()])
        log = repr(list(LogEntry.objects.values()))
        for value in shown.values():
            assert all(value not in text for text in (again, listed, sessions, log))

    def test_its_schema_is_there_and_the_creation_is_logged(self, boss):
        boss.post(ADD, {"name": "Gold Mall", "subdomain": "gold-mall", "plan_type": "pro"})
        tenant = Tenant.objects.get()
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [f"{tenant.schema_name}.messaging_message"])
            assert cursor.fetchone() == (True,)
        entry = LogEntry.objects.get()
        assert (entry.object_id, entry.is_addition()) == (str(tenant.pk), True)

    @pytest.mark.parametrize(
        ("subdomain", "words"),
        [
            ("admin", "reserved"),
            ("xn--fiq", "reserved"),
            ("Not A Label", "Lower-case letters"),
            ("-x", "Lower-case letters"),
            ("taken", "already exists"),
            ("", "required"),
            ("a\0b", "Null characters"),
        ],
    )
    def test_a_bad_subdomain_is_said_at_its_field_and_makes_nothing(self, boss, make_tenant, subdomain, words):
        make_tenant("taken")
        response = boss.post(ADD, {"name": "X", "subdomain": subdomain, "plan_type": "basic"})
        assert response.status_code == 200
        assert words in str(response.context["adminform"].form.errors["subdomain"])
        assert Tenant.objects.count() == 1

    def test_a_race_for_the_subdomain_is_words_not_an_error(self, boss, monkeypatch):
        def lose_the_race(self, *args, **kwargs):
            raise IntegrityError('duplicate key value violates unique constraint "tenants_tenant_subdomain_key"')

        monkeypatch.setattr(Tenant, "save", lose_the_race)
        response = boss.post(ADD, {"name": "X", "subdomain": "racy", "plan_type": "basic"}, follow=True)
        assert response.redirect_chain == [(ADD, 302)]
        assert "Another tenant has this subdomain already." in response.content.decode()
        assert not Tenant.objects.exists()


class TestChanging:
    def test_plan_overrides_and_origins(self, boss, make_tenant):
        tenant = make_tenant()
        changed = form_of(
            tenant,
            name="Acme & Sons",
            plan_type="pro",
            max_users="250",
            allowed_origins="https://App.example.com/\r\n\r\nhttp://localhost:3000\r\nhttps://app.example.com:443",
        )
        response = boss.post(change_url(tenant), changed)
        assert response.status_code == 302, response.context["errors"]
        tenant.refresh_from_db()
        assert (tenant.name, tenant.subdomain) == ("Acme & Sons", "acme")
        assert tenant.allowed_origins == ["https://app.example.com", "http://localhost:3000"]
        limits = read_limits(tenant.id)
        assert (limits.plan_type, limits.max_users, limits.max_messages) == ("pro", 250, 100_000)

        boss.post(change_url(tenant), form_of(tenant, max_users=""))
        assert read_limits(tenant.id).max_users == 1000

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("allowed_origins", "https://ok.example\r\nhttps://a.example/path"),
            ("allowed_origins", "*"),
            ("allowed_origins", "ftp://a.example"),
            ("allowed_origins", "https://a\0.example"),
            ("allowed_origins", "\r\n".join(f"https://a{n}.example" for n in range(101))),
            ("max_users", "-1"),
            ("max_users", "99999999999999999999"),
            ("retention_days", "0"),
            ("plan_type", "no-such-plan"),
            ("name", ""),
            ("name", "x" * 256),
        ],
    )
    def test_bad_values_are_said_at_their_field_and_change_nothing(self, boss, make_tenant, field, value):
        tenant = make_tenant()
        before = (Tenant.objects.values().get(), Subscription.objects.values().get())
        response = boss.post(change_url(tenant), form_of(tenant, **{field: value}))
        assert response.status_code == 200
        assert list(response.context["adminform"].form.errors) == [field]
        assert (Tenant.objects.values().get(), Subscription.objects.values().get()) == before

    def test_subdomain_and_status_cannot_be_posted(self, boss, make_tenant):
        tenant = make_tenant()
        boss.post(change_url(tenant), form_of(tenant, subdomain="other", status="closed", schema_name="public"))
        fresh = Tenant.objects.get()
        assert (fresh.subdomain, fresh.status, fresh.schema_name) == ("acme", "active", tenant.schema_name)

    def test_keys_and_domains_are_shown_and_cannot_be_posted(self, boss, make_tenant):
        tenant = make_tenant()
        page = boss.get(change_url(tenant)).content.decode()
        key = ApiKey.objects.filter(kind="secret").get()
        assert f"{key.prefix}…" in page
        assert "acme.localhost" in page
        forged = {"api_keys-TOTAL_FORMS": "1", "api_keys-0-kind": "secret", "api_keys-0-name": "forged"}
        boss.post(change_url(tenant), form_of(tenant, **forged))
        assert not ApiKey.objects.filter(name="forged").exists()

    def test_nobody_deletes_a_tenant(self, boss, make_tenant):
        tenant = make_tenant()
        assert boss.post(reverse("admin:tenants_tenant_delete", args=[tenant.pk]), {"post": "yes"}).status_code == 403
        boss.post(LIST, {"action": "delete_selected", "_selected_action": [tenant.pk], "post": "yes"})
        assert Tenant.objects.count() == 1


class TestSuspending:
    def test_the_buttons(self, boss, make_tenant):
        tenant = make_tenant()
        suspend = reverse("admin:tenants_tenant_suspend", args=[tenant.pk])
        reactivate = reverse("admin:tenants_tenant_reactivate", args=[tenant.pk])
        assert suspend in boss.get(change_url(tenant)).content.decode()
        assert boss.get(suspend).status_code == 405
        assert Tenant.objects.get().status == "active"
        response = boss.post(suspend, follow=True)
        assert Tenant.objects.get().status == "suspended"
        assert "1 tenant was suspended" in response.content.decode()
        assert reactivate in response.content.decode()
        boss.post(reactivate)
        assert Tenant.objects.get().status == "active"
        messages = LogEntry.objects.order_by("id").values_list("change_message", flat=True)
        assert list(messages) == ["Suspended.", "Reactivated."]

    def test_a_post_needs_the_csrf_token(self, boss, make_tenant):
        tenant = make_tenant()
        boss.handler.enforce_csrf_checks = True
        assert boss.post(reverse("admin:tenants_tenant_suspend", args=[tenant.pk])).status_code == 403
        assert Tenant.objects.get().status == "active"

    def test_in_bulk_a_closed_tenant_stays_closed_and_is_named(self, boss, make_tenant):
        one, two, closed = make_tenant("one"), make_tenant("two"), make_tenant("three", name="Gone")
        change_status(tenant=two, status=TenantStatus.SUSPENDED, now=NOW)
        change_status(tenant=closed, status=TenantStatus.CLOSED, now=NOW)
        data = {"action": "suspend_selected", "_selected_action": [one.pk, two.pk, closed.pk]}
        response = boss.post(LIST, data, follow=True)
        statuses = dict(Tenant.objects.values_list("subdomain", "status"))
        assert statuses == {"one": "suspended", "two": "suspended", "three": "closed"}
        said = [str(message) for message in response.context["messages"]]
        assert said == [
            "Gone is closed and stays closed.",
            "1 tenant was suspended. Its callers are refused within 5 seconds.",
        ]
        assert LogEntry.objects.count() == 1

    def test_unknown_and_malformed_ids_select_nothing(self, boss, make_tenant):
        tenant = make_tenant()
        for chosen in ("not-a-uuid", "00000000-0000-0000-0000-000000000000", "\0"):
            data = {"action": "suspend_selected", "_selected_action": [chosen]}
            assert boss.post(LIST, data).status_code == 302
        unknown = reverse("admin:tenants_tenant_suspend", args=["00000000-0000-0000-0000-000000000000"])
        assert boss.post(unknown).status_code == 404
        assert Tenant.objects.get(pk=tenant.pk).status == "active"


class TestPermissions:
    """Direct addresses and POSTs of staff who lack the permission: 403, and nothing changes."""

    def test_only_staff_come_in(self, client, make_tenant):
        tenant = make_tenant()
        for url in (LIST, ADD, change_url(tenant)):
            response = client.get(url)
            assert (response.status_code, response["Location"].partition("?")[0]) == (302, reverse("admin:login"))

    def test_without_any(self, staff, make_tenant):
        tenant = make_tenant()
        client = staff()
        for url in (LIST, ADD, change_url(tenant)):
            assert client.get(url).status_code == 403
        assert client.post(ADD, {"name": "X", "subdomain": "x", "plan_type": "basic"}).status_code == 403
        assert client.post(change_url(tenant), form_of(tenant, name="X")).status_code == 403
        for verb in ("suspend", "reactivate"):
            assert client.post(reverse(f"admin:tenants_tenant_{verb}", args=[tenant.pk])).status_code == 403
        chosen = {"action": "suspend_selected", "_selected_action": [tenant.pk]}
        assert client.post(LIST, chosen).status_code == 403
        assert list(Tenant.objects.values_list("name", "status")) == [("Acme", "active")]

    def test_viewers_see_and_change_nothing(self, staff, make_tenant):
        tenant = make_tenant()
        change_plan(tenant=tenant, overrides={"max_users": 7})
        client = staff("tenants.view_tenant")
        page = client.get(change_url(tenant)).content.decode()
        assert "active users: 7" in page
        assert "Basic" in page
        assert "suspend" not in page.replace("status-suspended", "")
        assert 'name="_save"' not in page
        assert client.get(ADD).status_code == 403
        assert client.post(change_url(tenant), form_of(tenant, name="X")).status_code == 403
        assert client.post(reverse("admin:tenants_tenant_suspend", args=[tenant.pk])).status_code == 403
        listed = client.get(LIST)
        assert b"suspend_selected" not in listed.content
        client.post(LIST, {"action": "suspend_selected", "_selected_action": [tenant.pk]})
        assert list(Tenant.objects.values_list("name", "status")) == [("Acme", "active")]

    def test_who_may_add_may_not_change(self, staff, make_tenant):
        tenant = make_tenant()
        client = staff("tenants.add_tenant")
        response = client.post(ADD, {"name": "X", "subdomain": "x", "plan_type": "basic"})
        assert response.status_code == 200
        assert len(response.context["credentials"]) == 3
        assert client.post(change_url(tenant), form_of(tenant, name="X")).status_code == 403

    def test_keys_are_shown_to_those_who_may_see_keys(self, staff, make_tenant):
        tenant = make_tenant()
        prefix = ApiKey.objects.filter(kind="secret").get().prefix
        assert prefix not in staff("tenants.view_tenant").get(change_url(tenant)).content.decode()
        allowed = staff("tenants.view_tenant", "tenants.view_apikey")
        assert prefix in allowed.get(change_url(tenant)).content.decode()


class TestList:
    def test_it_shows_plan_status_and_messages_of_this_month(self, boss, make_tenant):
        tenant = make_tenant()
        MonthlyUsage.objects.create(tenant=tenant, month=month_of(NOW), messages=1234, updated_at=NOW)
        MonthlyUsage.objects.create(tenant=tenant, month=datetime(2020, 1, 1, tzinfo=UTC), messages=9, updated_at=NOW)
        page = boss.get(LIST).content.decode()
        assert "1,234 / 10,000" in page
        for words in ("Acme", "acme", "Basic", "Active"):
            assert words in page

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("?q=gold", ["Gold Mall"]),
            ("?q=ACME", ["Acme"]),
            ("?status__exact=suspended", ["Gold Mall"]),
            ("?subscription__plan__plan_type__exact=pro", ["Gold Mall"]),
            ("?subscription__plan__plan_type__exact=enterprise", []),
            ("?o=2", ["Acme", "Gold Mall"]),
            ("?o=-6", ["Gold Mall", "Acme"]),
            ("?q=%25", []),
        ],
    )
    def test_search_filter_and_sort(self, boss, make_tenant, query, found):
        make_tenant()
        gold = make_tenant("gold", name="Gold Mall", plan="pro")
        change_status(tenant=gold, status=TenantStatus.SUSPENDED, now=NOW)
        MonthlyUsage.objects.create(tenant=gold, month=month_of(NOW), messages=1, updated_at=NOW)
        assert [tenant.name for tenant in boss.get(LIST + query).context["cl"].result_list] == found

    def test_an_id_finds_its_tenant(self, boss, make_tenant):
        make_tenant("other")
        tenant = make_tenant()
        assert list(boss.get(f"{LIST}?q={tenant.pk}").context["cl"].result_list) == [tenant]

    @pytest.mark.parametrize(
        "query",
        [
            "?q=%00",
            "?status__exact=%00",
            "?p=-1",
            "?p=x",
            "?o=x.y",
            "?id__exact=x",
            "?created_at__gte=x",
            "?nope=1",
            "?subscription__plan__plan_type__exact=%00",
            "?q=%ED%A0%80",
            "?p=999999999999999999999",
        ],
    )
    def test_malformed_queries_lead_back_to_a_list(self, boss, make_tenant, query):
        make_tenant()
        response = boss.get(LIST + query, follow=True)
        assert response.status_code == 200
        assert response.context["cl"] is not None

    def test_the_number_of_queries_does_not_grow_with_rows(self, boss, make_tenant):
        def queries(url: str) -> int:
            with CaptureQueriesContext(
                connection,
            ) as captured:
                assert boss.get(url).status_code == 200
            return len(captured)

        first = make_tenant("t0")
        for url in (LIST, change_url(first)):
            queries(url)  # content types and permissions are remembered from here on
        few = (queries(LIST), queries(change_url(first)))
        for number in range(1, 8):
            make_tenant(f"t{number}")
        assert (queries(LIST), queries(change_url(first))) == few
        assert few[0] <= 8

    def test_names_with_markup_are_text(self, boss, make_tenant):
        tenant = make_tenant(name=MARKUP)
        Domain.objects.create(tenant=tenant, domain="a.example", is_primary=False)
        suspended = boss.post(reverse("admin:tenants_tenant_suspend", args=[tenant.pk]), follow=True)
        change_status(tenant=tenant, status=TenantStatus.CLOSED, now=NOW)
        data = {"action": "suspend_selected", "_selected_action": [tenant.pk]}
        pages = [boss.get(LIST), boss.get(change_url(tenant)), suspended, boss.post(LIST, data, follow=True)]
        pages.append(boss.post(ADD, {"name": MARKUP, "subdomain": "markup", "plan_type": "basic"}))
        pages.append(boss.get(reverse("admin:index")))
        pages.append(boss.get(reverse("admin:tenants_tenant_history", args=[tenant.pk])))
        for page in pages:
            assert MARKUP not in page.content.decode()
            assert "&lt;script&gt;alert(1)" in page.content.decode()


class TestPlans:
    LIST = reverse("admin:quotas_plan_changelist")

    @staticmethod
    def form(**changes: object) -> dict[str, object]:
        limits = {"max_users": 5, "max_messages": 50, "retention_days": 7, "max_storage_bytes": 0, "max_connections": 3}
        return {"plan_type": "tiny", "name": "Tiny", "position": 9} | limits | changes

    def test_made_changed_and_deleted(self, boss, make_tenant):
        assert boss.post(reverse("admin:quotas_plan_add"), self.form()).status_code == 302
        plan = Plan.objects.get(plan_type="tiny")
        assert (plan.max_users, plan.max_storage_bytes, plan.retention_days) == (5, 0, 7)
        change = reverse("admin:quotas_plan_change", args=["tiny"])
        boss.post(change, self.form(max_users=6, plan_type="renamed"))
        assert Plan.objects.values_list("max_users", flat=True).get(plan_type="tiny") == 6
        assert boss.post(reverse("admin:quotas_plan_delete", args=["tiny"]), {"post": "yes"}).status_code == 302
        assert not Plan.objects.filter(plan_type="tiny").exists()

    def test_a_changed_limit_is_in_force_at_once_here(self, boss, make_tenant, django_capture_on_commit_callbacks):
        from quotas.services.limits import get_limits

        tenant = make_tenant()
        assert get_limits(tenant.id).max_users == 100
        with django_capture_on_commit_callbacks(execute=True):
            data = self.form(plan_type="basic", name="Basic", max_users=101)
            boss.post(reverse("admin:quotas_plan_change", args=["basic"]), data)
        assert get_limits(tenant.id).max_users == 101

    @pytest.mark.parametrize(
        ("field", "value"),
        [("max_users", -1), ("max_users", 2**53), ("retention_days", 0), ("plan_type", "a b"), ("max_messages", "")],
    )
    def test_bad_values_make_nothing(self, boss, field, value):
        response = boss.post(reverse("admin:quotas_plan_add"), self.form(**{field: value}))
        assert list(response.context["adminform"].form.errors) == [field]
        assert not Plan.objects.filter(name="Tiny").exists()

    def test_one_in_use_stays_and_staff_read_why(self, boss, make_tenant):
        make_tenant()
        url = reverse("admin:quotas_plan_delete", args=["basic"])
        for response in (boss.get(url, follow=True), boss.post(url, {"post": "yes"}, follow=True)):
            assert response.redirect_chain == [(reverse("admin:quotas_plan_change", args=["basic"]), 302)]
            assert "1 tenant is on the plan Basic" in response.content.decode()
        assert Plan.objects.filter(plan_type="basic").exists()
        assert boss.get(reverse("admin:quotas_plan_delete", args=["no-such"]), follow=True).status_code == 200

    def test_each_limit_says_what_it_does(self, boss):
        page = boss.get(reverse("admin:quotas_plan_add")).content.decode()
        assert page.count('class="help"') == len(self.form())

    def test_without_the_permission(self, staff, make_tenant):
        make_tenant()
        client = staff("quotas.view_plan")
        assert client.get(self.LIST).status_code == 200
        assert client.get(reverse("admin:quotas_plan_add")).status_code == 403
        assert client.post(reverse("admin:quotas_plan_add"), self.form()).status_code == 403
        change = reverse("admin:quotas_plan_change", args=["pro"])
        assert client.post(change, self.form(plan_type="pro", max_users=1)).status_code == 403
        assert client.post(reverse("admin:quotas_plan_delete", args=["pro"]), {"post": "yes"}).status_code == 403
        assert client.post(reverse("admin:quotas_plan_delete", args=["basic"]), {"post": "yes"}).status_code == 403
        assert staff().get(self.LIST).status_code == 403
        assert dict(Plan.objects.values_list("plan_type", "max_users")) == {
            "basic": 100,
            "pro": 1000,
            "enterprise": 10_000,
        }

    def test_ids_that_no_plan_can_have(self, boss):
        for plan_type in ("nope", "%00", "a/b", "x" * 500):
            assert boss.get(f"{self.LIST}{plan_type}/change/", follow=True).status_code in {200, 404}
