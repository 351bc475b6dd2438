"""Draws a result of cast_limit.py: roofline, time and memory against N, time against C; SVG and PNG by altair.

result.json ─▶ rows of points ─▶ chart ─▶ cast-limit-NAME-DTYPE.svg, .png
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
from limit_sums import Rates, cast_bound, medians, problem_of, rates_of

from castbench.units import mib, ms

Row = dict[str, Any]
SCALE = 2
"""Pixels of a PNG per unit of the drawing."""
AUTO_COLOUR = "#d96b00"
NUMBERS = alt.Axis(format=",~g", labelOverlap="greedy", labelSeparation=4)
BOUND = "bound of cast"
NAMES = ("naive", "sdpa", "cast", "cast, best C", "projections", BOUND)
COLOURS = ("#9c6b4e", "#d1495b", "#1f5fa8", "#58a4d8", "#4f8a4f", "#808080")
"""Of NAMES, in that order."""
MODULES = {"projections": "#4f8a4f", "sdpa": "#d1495b", "naive": "#9c6b4e", "top_k": "#1f5fa8",
           "single_assignment": "#58a4d8", "balanced": "#123763"}  # fmt: skip
OTHER_COLOURS = ("#f2a33a", "#8e5ea2", "#2aa198", "#c2a300", "#e377c2", "#7f7f7f", "#222222")
"""Of the parts of CAST, as they come."""


def draw(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Every picture that the result has figures for; the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, tuple[str, Callable[[Mapping[str, Any]], alt.Chart]]] = {
        "roofline": ("parts", roofline), "time": ("growth", time_by_tokens), "memory": ("growth", memory_by_tokens),
        "clusters": ("growth", time_by_clusters),
    }  # fmt: skip
    files = []
    for name, (needs, chart_of) in kinds.items():
        if needs in result:
            chart = styled(chart_of(result))
            for kind in ("svg", "png"):
                path = folder / f"cast-limit-{name}-{result['dtype']}.{kind}"
                chart.save(path, scale_factor=SCALE)
                files.append(path)
    return files


def styled(chart: alt.Chart) -> alt.Chart:
    """One look for all."""
    return (
        chart.configure_view(stroke="#cccccc")
        .configure_axis(gridColor="#eeeeee", labelFontSize=11, titleFontSize=12)
        .configure_legend(labelFontSize=12, titleFontSize=12, symbolSize=90, labelLimit=260)
        .configure_title(fontSize=15, subtitleFontSize=11, anchor="start", subtitleColor="#555555")
    )


def colours(names: Sequence[str]) -> alt.Color:
    """The same colour for the same module in all pictures."""
    known = dict(zip(NAMES, COLOURS, strict=True))
    return alt.Color("name:N", title=None, scale=alt.Scale(domain=list(names), range=[known[n] for n in names]))


def heading(result: Mapping[str, Any], title: str, *more: str) -> alt.TitleParams:
    """A title, and below it the machine."""
    machine = result["machine"]
    about = f"{machine['device']}, {machine['threads']} threads, {result['dtype']}, torch {machine['torch']}, batch 1"
    return alt.TitleParams(title, subtitle=[f"{about}, {machine['recorded_at'][:10]}", *more])


def side_by_side(charts: Sequence[alt.Chart], title: alt.TitleParams) -> alt.Chart:
    """Panels that share their legend."""
    return alt.hconcat(*charts, title=title, spacing=30)


def tokens_axis(values: Sequence[int]) -> alt.X:
    """Numbers of tokens as the powers of two that they are."""
    scale = alt.Scale(type="log", base=2, domain=[min(values), max(values)], nice=False)
    return alt.X(
        "tokens:Q",
        title="tokens N",
        scale=scale,
        axis=alt.Axis(values=sorted(set(values)), format=",d", labelAngle=-35),
    )


def growth_rows(result: Mapping[str, Any], width: int) -> Iterator[Row]:
    """Milliseconds by module and length, and the bound of CAST with auto's C."""
    for row in result["growth"]:
        if row["width"] == width:
            for name, seconds in medians(row["rounds"]).items():
                yield {"tokens": row["tokens"], "name": name, "value": ms(seconds)}
            bound = cast_bound(problem_of(row, result["dtype"]), row["auto"], rates_of(result, width))
            yield {"tokens": row["tokens"], "name": BOUND, "value": ms(bound.overlapped_s)}


def time_by_tokens(result: Mapping[str, Any]) -> alt.Chart:
    """Time of a forward pass against N, both logarithmic."""
    more = "bound of cast: its arithmetic at the fastest product seen, or its compulsory bytes at copy speed"
    title = heading(result, "Time of one forward pass against its length", more)
    return by_tokens(result, growth_rows, "milliseconds", title)


def memory_rows(result: Mapping[str, Any], width: int) -> Iterator[Row]:
    """MiB by module and length."""
    for row in result["growth"]:
        if row["width"] == width:
            for name, peak_bytes in row["peak_bytes"].items():
                yield {"tokens": row["tokens"], "name": name, "value": mib(peak_bytes)}


def memory_by_tokens(result: Mapping[str, Any]) -> alt.Chart:
    """The allocator's peak against N, both logarithmic."""
    title = heading(result, "Peak memory of one forward pass against its length",
                    "by PyTorch's allocator; weights and input are not in it")  # fmt: skip
    return by_tokens(result, memory_rows, "MiB", title)


def by_tokens(
    result: Mapping[str, Any], rows_of: Callable[[Mapping[str, Any], int], Iterator[Row]], unit: str,
    title: alt.TitleParams,
) -> alt.Chart:  # fmt: skip
    """A panel per width with a line per module."""
    panels = []
    for width in widths(result["growth"]):
        rows = list(rows_of(result, width))
        names = [name for name in NAMES if any(row["name"] == name for row in rows)]
        base = alt.Chart(alt.Data(values=rows), title=panel_title(result["growth"], width)).encode(
            x=tokens_axis([row["tokens"] for row in rows]),
            y=alt.Y("value:Q", title=unit, scale=logarithmic([row["value"] for row in rows]), axis=NUMBERS),
            color=colours(names),
        )
        dashed = alt.condition(f"datum.name == '{BOUND}'", alt.value([5, 4]), alt.value([1, 0]))
        measured = alt.datum.name != BOUND
        lines = base.mark_line(strokeWidth=2).encode(strokeDash=dashed)
        panels.append(
            (lines + base.transform_filter(measured).mark_point(filled=True, size=36)).properties(width=380, height=340)
        )
    return side_by_side(panels, title)


def roofline(result: Mapping[str, Any]) -> alt.Chart:
    """FLOP/s against FLOPs per byte moved: the machine's roof, whole modules, and the parts of CAST."""
    title = heading(
        result, "Roofline: what runs how near to the machine's limits",
        "bytes: what every operation reads and writes, were there no cache; a point above the slope lives in a cache",
        "parts without counted FLOPs (gathers, sorts, copies, softmax) have no place here; they stand in the table",
    )  # fmt: skip
    return side_by_side([roof_panel(result, width) for width in widths(result["parts"])], title)


def roof_panel(result: Mapping[str, Any], width: int) -> alt.Chart:
    """One width: modules as diamonds, parts of top_k as circles, below the roof."""
    mine = [row for row in result["parts"] if row["width"] == width]
    parts = [part for row in mine if row["arm"] == "top_k" for part in row["parts"] if part["flops"]]
    points = [point(f"top_k: {p['part']}", p["flops"], p["moved_bytes"], p["seconds"], 200) for p in parts]
    points += [whole_point(row) for row in mine]  # on top, and smaller: projections and out_proj are often in one place
    limits = rates_of(result, width)
    ridge = limits.gemm_flops_per_s / limits.bytes_per_s
    low, high = (f(ridge, *(p["intensity"] for p in points)) for f in (min, max))
    low, high = low / 2, high * 2
    roof = roof_rows(limits, low, high)
    speeds = [row["gflops"] for row in (*roof, *points)]
    x = alt.X("intensity:Q", title="FLOPs per byte moved", scale=logarithmic([low, high], 1), axis=NUMBERS)
    y = alt.Y("gflops:Q", title="GFLOP/s", scale=logarithmic(speeds), axis=NUMBERS)
    lines = alt.Chart(alt.Data(values=roof)).mark_line(color="#444444", strokeWidth=2).encode(x=x, y=y)
    marks = alt.Chart(alt.Data(values=points)).mark_point(filled=True, opacity=0.9)
    title = panel_title(result["parts"], width)
    title.subtitle = (
        f"roof: products {limits.gemm_flops_per_s / 1e9:.0f} GFLOP/s, copies {limits.bytes_per_s / 1e9:.0f} GB/s"
    )
    shown = lines + marks.encode(x=x, y=y, **kinds_of(result))
    return shown.properties(width=400, height=340, title=title)


def kinds_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """One legend for all panels: modules as diamonds, parts of CAST as circles."""
    modules = list(dict.fromkeys(row["arm"] for row in result["parts"]))
    parts = [f"top_k: {name}" for name in dict.fromkeys(
        part["part"] for row in result["parts"] if row["arm"] == "top_k" for part in row["parts"] if part["flops"]
    )]  # fmt: skip
    fills = [MODULES.get(m, "#000000") for m in modules] + [
        OTHER_COLOURS[i % len(OTHER_COLOURS)] for i in range(len(parts))
    ]
    shapes = ["diamond"] * len(modules) + ["circle"] * len(parts)
    return {
        "color": alt.Color("name:N", title=None, scale=alt.Scale(domain=[*modules, *parts], range=fills)),
        "size": alt.Size("size:Q", scale=None),
        "shape": alt.Shape("name:N", title=None, scale=alt.Scale(domain=[*modules, *parts], range=shapes)),
    }


def logarithmic(values: Sequence[float], margin: float = 1.4) -> alt.Scale:
    """A scale from the least to the greatest and a little beyond."""
    return alt.Scale(type="log", domain=[min(values) / margin, max(values) * margin], nice=False)


def whole_point(row: Mapping[str, Any]) -> Row:
    """A module as a whole: FLOPs and bytes of its parts, its own time."""
    flops, moved = (sum(part[key] for part in row["parts"]) for key in ("flops", "moved_bytes"))
    return point(row["arm"], flops, moved, row["whole_s"], 90)


def point(name: str, flops: float, moved_bytes: float, seconds: float, size: int) -> Row:
    """A place in the roofline, and how large its mark is."""
    return {"name": name, "intensity": flops / moved_bytes, "gflops": flops / seconds / 1e9, "size": size}


def roof_rows(limits: Rates, low: float, high: float) -> list[Row]:
    """The slope of the copy bandwidth up to the matmul rate, between two intensities."""
    ridge = limits.gemm_flops_per_s / limits.bytes_per_s
    at = [low, *([ridge] if low < ridge < high else []), high]
    reachable = [min(limits.gemm_flops_per_s, x * limits.bytes_per_s) for x in at]
    return [{"intensity": x, "gflops": y / 1e9} for x, y in zip(at, reachable, strict=True)]


def time_by_clusters(result: Mapping[str, Any]) -> alt.Chart:
    """Time against C at some lengths, with the C that auto takes."""
    curves = [s for s in result["searches"] if s["arm"] == "top_k" and s["mode"] == "forward"]
    wanted = [s for s in curves if s["tokens"] in result["curves"]]
    more = "cast, top_k; medians and ranges over the rounds of the search; orange: what `num_clusters: auto` takes"
    title = heading(result, "Time of one forward pass against the number of clusters", more)
    rows = [
        alt.hconcat(*(curve_panel(s) for s in sorted(wanted, key=lambda s: s["tokens"]) if s["width"] == width))
        for width in widths(wanted)
    ]
    return alt.vconcat(*rows, title=title)


def curve_panel(search: Mapping[str, Any]) -> alt.Chart:
    """One length: a line through the candidates, each with the range of its rounds."""
    points = []
    for clusters in map(int, medians(search["rounds"])):
        seen = [ms(r[str(clusters)]) for r in search["rounds"] if str(clusters) in r]
        middle = ms(medians(search["rounds"])[str(clusters)])
        points.append({"clusters": clusters, "value": middle, "low": min(seen), "high": max(seen),
                       "auto": clusters == search["auto"]})  # fmt: skip
    scale = alt.Scale(type="log", base=2, nice=False, padding=14)
    ticks = alt.Axis(values=sorted(p["clusters"] for p in points), format="d", labelOverlap="greedy", labelSeparation=6)
    x = alt.X("clusters:Q", title="clusters C", scale=scale, axis=ticks)
    y = alt.Y("value:Q", title="milliseconds", scale=alt.Scale(zero=True))
    base = alt.Chart(alt.Data(values=points), title=curve_title(search)).encode(x=x, y=y)
    ranges = base.mark_rule(color="#9db8d6", strokeWidth=3).encode(y=alt.Y("low:Q", title="milliseconds"), y2="high:Q")
    line = base.mark_line(color="#1f5fa8", point=alt.OverlayMarkDef(size=40, color="#1f5fa8"))
    auto = base.transform_filter(alt.datum.auto)
    mark = auto.mark_point(shape="diamond", filled=True, size=170, color=AUTO_COLOUR, opacity=1)
    label = auto.mark_text(dy=22, color=AUTO_COLOUR, fontSize=12).encode(text=alt.value(f"auto: {search['auto']}"))
    return (ranges + line + mark + label).properties(width=270, height=210)


def curve_title(search: Mapping[str, Any]) -> alt.TitleParams:
    """Width and length."""
    return alt.TitleParams(f"M = {search['width']}, N = {search['tokens']:,}", fontSize=13)


def widths(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Widths in the order of the result."""
    return list(dict.fromkeys(row["width"] for row in rows))


def panel_title(rows: Sequence[Mapping[str, Any]], width: int) -> alt.TitleParams:
    """Width and heads, smaller than the picture's title; the length where there is only one."""
    mine = [row for row in rows if row["width"] == width]
    lengths = {row["tokens"] for row in mine}
    length = f", N = {lengths.pop():,}" if len(lengths) == 1 else ""
    return alt.TitleParams(f"M = {width}, {mine[0]['heads']} heads{length}", fontSize=13)
