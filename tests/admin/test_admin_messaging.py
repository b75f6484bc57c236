"""Pages over a tenant's own tables: only with a chosen tenant, only its rows, only by permission."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from messaging.models import Conversation, Message, Participant, User
from tenants.models import Tenant
from tenants.scope import tenant_scope

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MARKUP = "<script>alert(1)</script>"
SECRET_TEXT = "the-secret-text"
MODELS = ("user", "conversation", "participant", "message")


def list_url(model: str) -> str:
    return reverse(f"admin:messaging_{model}_changelist")


def page_url(model: str, pk: object) -> str:
    return reverse(f"admin:messaging_{model}_change", args=[pk])


def choose(client, tenant: Tenant, model: str = "user", **data):
    return client.post(reverse(f"admin:messaging_{model}_choose_tenant"), {"tenant": str(tenant.pk)} | data)


def fill(tenant: Tenant, name: str, *, text: str = SECRET_TEXT, users: int = 2) -> dict[str, object]:
    """Some users in one conversation, one message each. Rows are made directly: what is tested is reading."""
    with tenant_scope(tenant):
        made = [
            User.objects.create(
                external_user_id=f"{name}-{n}", display_name=f"{name} {n}", created_at=NOW, updated_at=NOW
            )
            for n in range(users)
        ]
        conversation = Conversation.objects.create(
            type="group",
            title=f"{name} talk",
            created_by=made[0],
            created_at=NOW,
            updated_at=NOW,
            last_event_at=NOW,
            oldest_at=NOW,
            last_seq=users,
            message_count=users,
            participant_count=users,
        )
        places = [
            Participant.objects.create(conversation=conversation, user=user, joined_at=NOW, role="member")
            for user in made
        ]
        messages = [
            Message.objects.create(
                conversation=conversation,
                seq=seq,
                message_index=seq,
                sender=user,
                type="text",
                content={"text": text},
                body_digest=b"",
                created_at=NOW,
                recorded_at=NOW,
                updated_at=NOW,
            )
            for seq, user in enumerate(made, start=1)
        ]
    return {"user": made[0].pk, "conversation": conversation.pk, "participant": places[0].pk, "message": messages[0].pk}


@pytest.fixture
def acme(make_tenant) -> Tenant:
    return make_tenant()


@pytest.fixture
def other(make_tenant) -> Tenant:
    return make_tenant("other", name="Other")


class TestChoosing:
    @pytest.mark.parametrize("model", MODELS)
    def test_every_page_asks_for_a_tenant_first(self, boss, acme, model):
        ids = fill(acme, "acme")
        chooser = reverse(f"admin:messaging_{model}_choose_tenant")
        for url in (f"{list_url(model)}?q=x", page_url(model, ids[model])):
            response = boss.get(url)
            assert response.status_code == 302
            assert response["Location"].startswith(f"{chooser}?next=")
            page = boss.get(response["Location"])
            assert page.status_code == 200
            assert page.context["next"] == url

    def test_the_choice_leads_on_and_is_shown_on_each_page(self, boss, acme):
        ids = fill(acme, "acme")
        wanted = page_url("user", ids["user"])
        assert choose(boss, acme, next=wanted)["Location"] == wanted
        for url in (list_url("user"), wanted, list_url("conversation"), page_url("conversation", ids["conversation"])):
            page = boss.get(url).content.decode()
            assert 'class="tenant-bar"' in page
            assert "<strong>Acme</strong>" in page
            assert "choose-tenant/" in page

    @pytest.mark.parametrize(
        "elsewhere", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "\\\\evil.example", ""]
    )
    def test_it_leads_nowhere_else(self, boss, acme, elsewhere):
        assert choose(boss, acme, next=elsewhere)["Location"] == list_url("user")

    def test_tenants_are_found_by_name_or_subdomain(self, boss, acme, other):
        chooser = reverse("admin:messaging_user_choose_tenant")
        for search, found in (
            ("ACM", [acme]),
            ("oth", [other]),
            ("", [acme, other]),
            ("nope", []),
            ("\0", [acme, other]),
        ):
            assert list(boss.get(chooser, {"q": search}).context["offered"].object_list) == found
        for page in ("0", "-1", "x", "999"):
            assert boss.get(chooser, {"p": page}).status_code == 200

    @pytest.mark.parametrize("tenant_id", ["", "x", "00000000-0000-0000-0000-000000000000", "\0", "public"])
    def test_what_is_no_tenant_cannot_be_chosen(self, boss, acme, tenant_id):
        response = boss.post(reverse("admin:messaging_user_choose_tenant"), {"tenant": tenant_id})
        assert response.status_code == 404
        assert boss.get(list_url("user")).status_code == 302

    def test_a_tenant_that_is_gone_is_asked_for_anew(self, boss, acme):
        choose(boss, acme)
        Tenant.objects.all().delete()
        assert "choose-tenant" in boss.get(list_url("user"))["Location"]

    def test_the_tenants_page_leads_here(self, boss, acme):
        page = boss.get(reverse("admin:tenants_tenant_change", args=[acme.pk])).content.decode()
        assert reverse("admin:messaging_user_choose_tenant") in page
        assert reverse("admin:messaging_conversation_choose_tenant") in page


class TestIsolation:
    def test_lists_hold_the_chosen_tenants_rows_alone(self, boss, acme, other):
        fill(acme, "acme")
        fill(other, "other")
        for tenant, mine, foreign in ((acme, "acme", "other-"), (other, "other", "acme-")):
            choose(boss, tenant)
            page = boss.get(list_url("user"))
            assert sorted(user.external_user_id for user in page.context["cl"].result_list) == [
                f"{mine}-0",
                f"{mine}-1",
            ]
            assert foreign not in page.content.decode()
            conversations = boss.get(list_url("conversation"))
            assert [row.title for row in conversations.context["cl"].result_list] == [f"{mine} talk"]

    @pytest.mark.parametrize("model", MODELS)
    def test_another_tenants_id_is_404(self, boss, acme, other, model):
        mine, foreign = fill(acme, "acme"), fill(other, "other")
        choose(boss, acme)
        assert boss.get(page_url(model, mine[model])).status_code == 200
        if model != "participant":  # numbered anew in each schema
            refused = boss.get(page_url(model, foreign[model]))
            unknown = boss.get(page_url(model, UUID(int=0)))
            assert (refused.status_code, unknown.status_code) == (404, 404)
            assert "other" not in refused.content.decode().lower().replace("another", "")

    @pytest.mark.parametrize("object_id", ["x", "%00", "_0", "a/b", "1" * 400, "%ED%A0%80"])
    def test_malformed_ids_are_404(self, boss, acme, object_id):
        choose(boss, acme)
        for model in MODELS:
            assert boss.get(f"{list_url(model)}{object_id}/change/").status_code == 404

    @pytest.mark.parametrize(
        "query",
        [
            "?q=%00",
            "?type__exact=%00",
            "?p=x",
            "?p=99999",
            "?o=9.9",
            "?id__exact=x",
            "?created_at__gte=x",
            "?nope=1",
            "?conversation__id__exact=x",
            "?q=%ED%A0%80",
        ],
    )
    def test_malformed_queries_lead_back_to_a_list(self, boss, acme, query):
        choose(boss, acme)
        for model in MODELS:
            assert boss.get(list_url(model) + query, follow=True).status_code == 200

    def test_public_is_back_afterwards_and_the_staffs_own_tables_are_reached(self, boss, acme):
        fill(acme, "acme")
        choose(boss, acme)
        assert boss.get(list_url("user")).status_code == 200
        assert connection.schema_name == "public"
        assert list(LogEntry.objects.all()) == []
        assert boss.get(reverse("admin:index")).status_code == 200

    @pytest.mark.parametrize("model", MODELS)
    def test_nothing_is_written(self, boss, acme, model):
        ids = fill(acme, "acme")
        choose(boss, acme)
        assert boss.get(reverse(f"admin:messaging_{model}_add")).status_code == 403
        assert boss.post(reverse(f"admin:messaging_{model}_add"), {"external_user_id": "x"}).status_code == 403
        assert boss.post(page_url(model, ids[model]), {"display_name": "x", "title": "x"}).status_code == 403
        delete = reverse(f"admin:messaging_{model}_delete", args=[ids[model]])
        assert boss.get(delete).status_code == 403
        assert boss.post(delete, {"post": "yes"}).status_code == 403
        assert boss.get(reverse(f"admin:messaging_{model}_history", args=[ids[model]])).status_code == 404
        boss.post(list_url(model), {"action": "delete_selected", "_selected_action": [ids[model]], "post": "yes"})
        with tenant_scope(acme):
            counts = [each.objects.count() for each in (User, Conversation, Participant, Message)]
        assert counts == [2, 1, 2, 2]


class TestReading:
    def test_search_and_filters(self, boss, acme):
        ids = fill(acme, "acme")
        with tenant_scope(acme):
            User.objects.filter(external_user_id="acme-1").update(is_active=False, email="li@example.com")
        choose(boss, acme)

        def found(model: str, query: str) -> list[str]:
            return sorted(str(row) for row in boss.get(list_url(model) + query).context["cl"].result_list)

        assert found("user", "?q=LI@example") == ["acme 1"]
        assert found("user", f"?q={ids['user']}") == ["acme 0"]
        assert found("user", "?is_active__exact=0") == ["acme 1"]
        assert found("user", "?q=nobody") == []
        assert found("conversation", "?q=TALK") == ["acme talk"]
        assert found("conversation", f"?q={ids['conversation']}") == ["acme talk"]
        assert found("conversation", "?type__exact=direct") == []
        assert len(found("message", f"?q={ids['conversation']}")) == 2
        assert len(found("message", f"?q={ids['user']}")) == 1
        assert len(found("message", f"?conversation__id__exact={ids['conversation']}")) == 2
        assert found("message", "?q=anything") == []
        assert len(found("participant", "?q=acme-1")) == 1

    def test_pages_of_a_list(self, boss, acme):
        fill(acme, "acme", users=60)
        choose(boss, acme)
        first, second = (boss.get(f"{list_url('user')}?p={page}").context["cl"].result_list for page in (1, 2))
        assert (len(first), len(second)) == (50, 10)
        assert not {user.pk for user in first} & {user.pk for user in second}

    def test_the_number_of_queries_does_not_grow_with_rows(self, boss, acme, other):
        few, many = fill(acme, "acme", users=2), fill(other, "other", users=30)

        def queries(url: str) -> int:
            with CaptureQueriesContext(connection) as captured:
                assert boss.get(url).status_code == 200
            return len(captured)

        counts = []
        for tenant, ids in ((acme, few), (other, many)):
            choose(boss, tenant)
            pages = [list_url(model) for model in MODELS] + [page_url(model, ids[model]) for model in MODELS]
            [queries(page) for page in pages]
            counts.append([queries(page) for page in pages])
        assert counts[0] == counts[1]
        assert max(counts[0]) <= 14

    def test_a_conversation_shows_participants_and_messages(self, boss, acme):
        ids = fill(acme, "acme")
        choose(boss, acme)
        page = boss.get(page_url("conversation", ids["conversation"])).content.decode()
        assert page_url("user", ids["user"]) in page
        assert page_url("message", ids["message"]) in page
        assert page.count(SECRET_TEXT) == 2

    def test_a_user_shows_conversations(self, boss, acme):
        ids = fill(acme, "acme")
        choose(boss, acme)
        page = boss.get(page_url("user", ids["user"])).content.decode()
        assert page_url("conversation", ids["conversation"]) in page

    def test_markup_is_text(self, boss, make_tenant):
        tenant = make_tenant(name=MARKUP)
        ids = fill(tenant, MARKUP, text=MARKUP)
        choose(boss, tenant)
        pages = [list_url(model) for model in MODELS] + [page_url(model, ids[model]) for model in MODELS]
        for url in [*pages, reverse("admin:messaging_user_choose_tenant")]:
            page = boss.get(url).content.decode()
            assert MARKUP not in page
            assert "&lt;script&gt;" in page


class TestPermissions:
    @pytest.mark.parametrize("model", MODELS)
    def test_without_it_no_page_opens_and_no_tenant_is_chosen(self, staff, acme, model):
        ids = fill(acme, "acme")
        everything_else = [f"messaging.view_{each}" for each in MODELS if each != model]
        client = staff(*everything_else, "tenants.view_tenant")
        chooser_of_another = next(each for each in MODELS if each != model)
        assert choose(client, acme, chooser_of_another).status_code == 302
        assert client.get(list_url(model)).status_code == 403
        assert client.get(page_url(model, ids[model])).status_code == 403
        assert client.get(page_url(model, UUID(int=0))).status_code == 403
        assert client.get(reverse(f"admin:messaging_{model}_choose_tenant")).status_code == 403
        assert choose(client, acme, model).status_code == 403

    def test_contents_need_the_permission_to_view_messages(self, staff, acme):
        ids = fill(acme, "acme")
        client = staff("messaging.view_conversation", "messaging.view_user")
        choose(client, acme)
        with CaptureQueriesContext(connection) as captured:
            page = client.get(page_url("conversation", ids["conversation"])).content.decode()
        assert SECRET_TEXT not in page
        assert "their content is not shown" in page
        assert "acme 0" in page  # who wrote, and when, is there
        assert not any('"messaging_message"."content"' in query["sql"] for query in captured)
        assert page_url("message", ids["message"]) not in page
        assert 'href="/admin/messaging/participant/' not in page
        assert client.get(page_url("message", ids["message"])).status_code == 403
        assert client.get(f"{list_url('message')}?content__icontains=secret").status_code == 403

        reader = staff("messaging.view_conversation", "messaging.view_message", "messaging.view_participant")
        choose(reader, acme, "conversation")
        assert SECRET_TEXT in reader.get(page_url("conversation", ids["conversation"])).content.decode()
        assert SECRET_TEXT in reader.get(page_url("message", ids["message"])).content.decode()

    def test_who_is_not_staff_is_sent_to_sign_in(self, client, acme):
        for url in (list_url("user"), reverse("admin:messaging_user_choose_tenant")):
            assert client.get(url)["Location"].startswith(reverse("admin:login"))
