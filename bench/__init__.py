"""How fast EasyQ is on this machine; README.md says what each number means."""
