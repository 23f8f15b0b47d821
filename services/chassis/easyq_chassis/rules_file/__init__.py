"""The rules file that services share: what it may say (`contract`), and how a change of it is taken (`watch`)."""
