"""Plans, who is on them, and the counters that are the authority on what was used."""

from quotas.models.plan import Plan
from quotas.models.subscription import Subscription
from quotas.models.usage import MonthlyUsage, StandingUsage

__all__ = ["MonthlyUsage", "Plan", "StandingUsage", "Subscription"]
