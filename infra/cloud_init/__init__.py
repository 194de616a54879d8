"""First boot of a machine: cloud-init's user data for each tier, and the scripts that it runs."""
