"""Pay once, put to the test: workers die, answers are lost, disks run full, and the service keeps count."""
