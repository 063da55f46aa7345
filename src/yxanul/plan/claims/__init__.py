"""What was promised for this plan, beside what arithmetic says; nothing here changes a plan."""
