"""The Scheduler: tasks that become actions when they are due."""
