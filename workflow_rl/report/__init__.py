"""Reports: what one run learnt, how fast and why, or several runs beside each other, as one HTML page.

    runs       what run directories hold, read for a report
    answer     what searches of all attackers ended with
    curves     smoothing, and the course of a search
    timeline   who did what when, read from a trace
    figure     what all charts share; they are Vega-Lite specifications made with Altair
    learning, search, speed, leaderboard
               the charts
    sections   what a report is made of, from top to bottom
    page       sections as one HTML file, and each chart as a PNG
    job        the command

`report.html.jinja`, `report.css` and `report.js` are the page.
"""
