"""What a tenant may use and what it used: plans, limits, metering."""
