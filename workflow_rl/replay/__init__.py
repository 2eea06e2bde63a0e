"""Replays: one episode of CAGE Challenge 2, recorded step by step and shown as a page.

    recording   plays an episode and keeps what was true, what blue saw and what was done
    page        the recording as one HTML file that needs no network
    job         the command

`replay.html.jinja`, `replay.css` and `replay.js` are the page; Python only fills in the recording and draws
the network, which is the same in every episode.
"""
