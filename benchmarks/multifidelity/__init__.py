"""Multi-fidelity search compared on tables of learning curves; trains nothing.

``task`` is a table as a problem, ``tasks`` the tables there are; ``simulate`` plays schedulers and samplers
on records alone under a virtual clock, ``play`` any other method, ``trace`` is what came of it; ``methods``
and ``peers`` are who is compared, ``run`` makes the runs and ``report`` draws them up.
"""
