"""`make chaos`: a mixed load, a seeded nemesis, and a checker that proves from a history that nothing went wrong.

`programs` says what containers do and what must come of it, `load` what is asked for and when, `faults` what breaks and
when: all three are functions of the seed. `stage` is the farm, `nemesis` carries the faults out, `observer` and
`reader` watch. All that they see is written down as `history`; `world` reads it into records, and `checks` finds what
must not be, both pure. `mutants` breaks the product on purpose, to see the checker find it.
"""
