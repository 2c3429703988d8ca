"""What the end-to-end tests share: a running platform, packages, raw HTTP, and the look for left-overs."""
