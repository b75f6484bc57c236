"""Calendar months in UTC, as metering counts them."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.services.metering import month_of, month_resets_at

CHINA, HAWAII = timezone(timedelta(hours=8)), timezone(timedelta(hours=-10))


@pytest.mark.parametrize(
    ("at", "month", "resets_at"),
    [
        (datetime(2026, 1, 31, 23, 59, 59, 999_999, UTC), date(2026, 1, 1), datetime(2026, 2, 1, tzinfo=UTC)),
        (datetime(2026, 2, 1, tzinfo=UTC), date(2026, 2, 1), datetime(2026, 3, 1, tzinfo=UTC)),
        (datetime(2026, 12, 31, 12, tzinfo=UTC), date(2026, 12, 1), datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2026, 3, 1, 7, 59, tzinfo=CHINA), date(2026, 2, 1), datetime(2026, 3, 1, tzinfo=UTC)),
        (datetime(2026, 2, 28, 14, 0, tzinfo=HAWAII), date(2026, 3, 1), datetime(2026, 4, 1, tzinfo=UTC)),
        (datetime(2028, 2, 29, tzinfo=UTC), date(2028, 2, 1), datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_months_begin_and_end_in_utc(at: datetime, month: date, resets_at: datetime) -> None:
    assert month_of(at) == month
    assert month_resets_at(at) == resets_at


@given(st.datetimes(max_value=datetime(9998, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - Hypothesis wants it naive
def test_a_moment_lies_in_its_month(at: datetime) -> None:
    begin = datetime.combine(month_of(at), datetime.min.time(), UTC)
    assert begin <= at < month_resets_at(at)
    assert month_of(month_resets_at(at)) > month_of(at)
    assert month_of(month_resets_at(at) - timedelta(microseconds=1)) == month_of(at)
