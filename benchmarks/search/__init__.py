"""Search methods compared on tables of finished trainings: tasks, methods, runs, report; trains nothing.

``task`` is what a method is asked to solve, ``tasks`` the twelve there are, ``methods`` and ``peers`` who
solves them, ``run`` makes the runs and ``report`` draws them up.
"""
