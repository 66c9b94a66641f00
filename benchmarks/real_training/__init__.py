"""Search methods compared by really training networks, for equal processor seconds; knows no tables.

``problem`` says what is searched and trained, ``meter`` when a search is over and what it has seen by when;
``methods`` are who is compared, ``run`` makes the searches, ``outcome`` reads them, ``report`` draws them up.
"""
