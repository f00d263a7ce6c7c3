"""The kept search of chapter 10: its verdicts as text, its curve with the knee and the SLO."""

from __future__ import annotations

from kvlab.chapters.load_tests.kept_search import kept_search, search_chart, search_text


def test_the_kept_search_says_the_verdict_at_each_rate_and_what_the_generator_did() -> None:
    search = kept_search()
    assert search.verdict == "FOUND"
    lines = search_text(search).splitlines()
    rates = sorted({round(probe.rate) for probe in search.probes})
    assert [line.split()[0] for line in lines[: len(rates)]] == [f"{rate:,}" for rate in rates]
    held = sum(int(line.split(": ")[1].split()[0]) for line in lines[: len(rates)])
    assert held == sum(probe.holds for probe in search.probes)
    assert max(map(len, lines)) <= 92
    assert "the generator: a closed loop did" in "\n".join(lines)
    (axes,) = search_chart(search).axes
    assert axes.get_title(loc="left") == search.says()
    assert {"p50", "p99", "p99.9", "SLO", "knee"} <= {text.get_text() for text in axes.texts}
