"""The pages of `Report` and `Comparison`: one HTML file, no request to anywhere."""

import base64
import html

import numpy as np

from keras_gen.images import encode_png, grid
from keras_gen.metrics.report import (
    HIGHER,
    LIKE_REAL,
    LOWER,
    about,
    copies,
    interval,
    number,
    percent,
)

_MAX_CLASS_ROWS = 20
_DIRECTION = {LOWER: "lower is better", HIGHER: "higher is better", LIKE_REAL: "as real images"}

_STYLE = """
:root{--ink:#1c2430;--soft:#5c6675;--line:#dfe3e8;--paper:#fff;--tint:#f5f7f9;--accent:#2563a8;
--good:#1b7f4b;--note:#8a6100;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#a2abb8;--line:#39424e;
--paper:#171c23;--tint:#1f2630;--accent:#7ab0ec;--good:#5fcf93;--note:#e0b050;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:24px 20px 60px;background:var(--paper);
color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:26px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:19px;margin:40px 0 10px;padding-bottom:5px;border-bottom:1px solid var(--line)}
p{margin:6px 0 10px;max-width:78ch}.soft,figcaption,small{color:var(--soft)}
small{font-size:12.5px}
ul.findings{list-style:none;margin:18px 0;padding:0;display:grid;gap:6px}
.findings li{padding:7px 12px;background:var(--tint);border-left:4px solid var(--soft);
border-radius:3px;overflow-wrap:anywhere}
.findings .good{border-color:var(--good)}.findings .note{border-color:var(--note)}
.findings .bad{border-color:var(--bad)}.findings b{margin-right:6px}
.good b{color:var(--good)}.note b{color:var(--note)}.bad b{color:var(--bad)}
.wide{overflow-x:auto;margin:10px 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--line);vertical-align:top;
white-space:nowrap}
th{color:var(--soft);font-weight:600;font-size:13px;white-space:normal;vertical-align:bottom}
th:first-child,td:first-child,th.text{text-align:left}td.text{text-align:left;white-space:normal;
min-width:260px;color:var(--soft);font-size:13.5px}
td.name{white-space:normal;overflow-wrap:break-word;min-width:130px}
td b.number{font-size:16px}
img{image-rendering:pixelated;max-width:100%;height:auto;display:block}
.rows{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:2px 12px;
align-items:center}
.rows span{font-size:13px;color:var(--soft);max-width:16ch;overflow:hidden;
text-overflow:ellipsis;white-space:nowrap}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:14px}
figure{margin:0}.pairs figure div{display:grid;grid-template-columns:1fr 1fr;gap:4px}
.pairs img{width:100%}figcaption{font-size:12.5px;line-height:1.35;margin-top:3px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:18px}
.charts svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font:11px system-ui,
sans-serif}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:4px 18px;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.bar{display:inline-block;height:9px;background:var(--accent);border-radius:2px;opacity:.8;
vertical-align:middle;margin-right:6px}
a{color:var(--accent)}
@media (max-width:600px){body{padding:14px 12px 40px;font-size:14px}h1{font-size:21px}
th,td{padding:5px 7px}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:8px}
.pairs{grid-template-columns:repeat(auto-fill,minmax(140px,1fr))}
td.text{min-width:200px}}
"""


# ---------------------------------------------------------------------------------------------
# One model
# ---------------------------------------------------------------------------------------------


def report_page(report):
    """The page of a `Report`: str."""
    record = report.record
    parts = [
        f"<h1>{_e(report.name)}</h1>",
        f'<p class="soft">{_subtitle(record)}</p>',
        _findings(report.findings()),
        "<h2>Generated images</h2>",
        _samples(report),
        "<h2>Metrics</h2>",
        _metrics(record),
        _classes(record["classes"]),
        _copies(report),
        "<h2>How it was measured</h2>",
        _provenance(record),
    ]
    return _page(report.name, parts)


def _subtitle(record):
    real, model = record["real"], record["model"]
    text = (
        f"{record['settings']['num_images']:,} generated images against {real['n']:,} of "
        f"{real['source']}"
    )
    text += f" ({real['split']})" if real["split"] else ""
    if model["training_steps"] is not None:
        text += f"; after {model['training_steps']:,} training steps"
    return _e(f"{text}; {record['created'][:10]}")


def _findings(findings):
    words = {"good": "✓", "note": "!", "bad": "✗"}
    items = "".join(
        f'<li class="{level}"><b>{words[level]}</b>{_e(text)}</li>' for level, text in findings
    )
    return f'<ul class="findings">{items}</ul>'


def _samples(report):
    labels, images = report.sample_labels, report.samples
    seed = report.record["settings"]["seed"]
    provenance = report.provenance
    scale = max(1, 56 // max(images.shape[1:3]))
    given = report.record["model"]["kind"] == "images"
    text = (
        f"Chosen at random by seed {seed}." if given else f"The first of seed {seed}; not chosen."
    )
    caption = f'<p class="soft">{text}</p>'
    names = report.record["real"]["class_names"]
    known = labels is not None and names and (np.asarray(labels) >= 0).all()
    if not known or len(names) > _MAX_CLASS_ROWS:
        columns = min(len(images), 16 if images.shape[2] <= 64 else 8)
        picture = grid(images, columns=columns, scale=scale)
        return caption + _image(picture, provenance, "generated images")
    rows, fewest = [], np.unique(labels, return_counts=True)[1].min()
    for index in sorted({int(label) for label in labels}):
        own = images[np.asarray(labels) == index]
        own = own[:fewest] if fewest >= 4 else own
        picture = grid(own, columns=len(own), padding=1, scale=scale)
        name = names[index]
        rows.append(
            f'<span title="{_e(name)}">{_e(name)}</span>{_image(picture, provenance, name)}'
        )
    return f'{caption}<div class="rows">{"".join(rows)}</div>'


def _metrics(record):
    head = (
        "<th>Metric</th><th>Value</th>"
        f"<th>{record['settings']['confidence']:.0%} interval</th>"
        "<th>Other real images (floor)</th><th>n generated</th><th>n real</th>"
        '<th class="text">What it means</th>'
    )
    rows = "".join(_metric_row(metric) for metric in record["metrics"])
    extractor = record["extractor"]
    note = (
        f"All on the {extractor['dimension']:,} features of {extractor['name']}. The floor is what "
        f"{record['metrics'][0]['parameters']['floor_of']} get: what a perfect generator would. "
        "Intervals are for the choice of the generated images, not for the choice of the real "
        "ones, nor for another training run."
        if record["metrics"]
        else "No metric could be computed."
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f'</div><p class="soft">{_e(note)}</p>'
    )


def _metric_row(metric):
    known = about(metric["name"])
    spread = f"<br><small>± {number(metric['std'])}</small>" if metric["std"] is not None else ""
    details = ", ".join(
        f"{key} {value}"
        for key, value in metric["parameters"].items()
        if key not in ("floor_of", "seed")
    )
    details = f"<br><small>{_e(details)}</small>" if details else ""
    warned = "".join(f"<br>⚠ {_e(text)}" for text in metric["warnings"])
    n_real = "–" if metric["n_real"] is None else f"{metric['n_real']:,}"
    return (
        f'<tr><td class="name"><b>{_e(known.title)}</b><br><small>{_DIRECTION[known.better]}'
        f'</small>{details}</td><td><b class="number">{number(metric["value"])}</b>{spread}</td>'
        f"<td>{interval(metric) or '–'}</td><td>{number(metric['floor'])}</td>"
        f"<td>{metric['n_fake']:,}</td><td>{n_real}</td>"
        f'<td class="text">{_e(known.text)}{warned}</td></tr>'
    )


def _classes(classes):
    if classes is None:
        return ""
    rows = classes["rows"]
    columns = [
        ("Class", lambda row: _e(row["class"])),
        ("Real images", lambda row: f"{row['n_real']:,}"),
        ("Share, real", lambda row: percent(row["real_share"])),
    ]
    if rows[0]["n_asked"] is not None:
        columns.append(("Asked for", lambda row: f"{row['n_asked']:,}"))
    if rows[0]["share"] is not None:
        columns.append(("Share, generated", lambda row: _bar(row["share"], rows)))
    if any(row["agreement"] is not None for row in rows):
        columns.append(("Seen as asked for", lambda row: percent(row["agreement"])))
    if any(row["agreement_held_out"] is not None for row in rows):
        columns.append(("Real held-out seen right", lambda row: percent(row["agreement_held_out"])))
    for key, title in (
        ("precision", "Precision (floor)"),
        ("recall", "Recall (floor)"),
        ("kernel_distance", "Kernel distance (floor)"),
    ):
        if any(key in row for row in rows):
            columns.append((title, lambda row, key=key: _with_floor(row, key)))
    compared = any("precision" in row for row in rows)
    if compared:
        columns.append(("n", lambda row: f"{row['n_compared']:,}"))
    head = "".join(f"<th>{title}</th>" for title, _ in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell(row)}</td>" for _, cell in columns) + "</tr>" for row in rows
    )
    return (
        "<h2>Classes</h2>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f'</div><p class="soft">{_e(_classes_note(classes, compared))}</p>'
    )


def _classes_note(classes, compared):
    text = f"Images are grouped by {classes['grouped_by']}."
    if classes["agreement"] is not None:
        low, high = classes["agreement"]["interval"]
        text += (
            f" Seen as asked for over all classes: {percent(classes['agreement']['value'])} "
            f"({percent(low)} to {percent(high)}) of {classes['agreement']['n']:,}."
        )
    if compared:
        text += (
            " Distances within a class compare n generated images with n real ones; the floor is "
            "n other real images of the class."
        )
    else:
        text += " There are too few images in a class to compare the classes one by one."
    return text


def _bar(share, rows):
    widest = max(row["share"] for row in rows) or 1
    return f'<i class="bar" style="width:{60 * share / widest:.0f}px"></i>{percent(share)}'


def _with_floor(row, key):
    if key not in row:
        return "–"
    return f"{number(row[key])} <small>({number(row[f'{key}_floor'])})</small>"


def _copies(report):
    audit = report.record["memorization"]
    if audit is None:
        return ""
    figures = "".join(_pair(pair, report.provenance) for pair in report.pairs)
    rows = "".join(_space_row(name, space) for name, space in audit["spaces"].items())
    head = (
        "<th>Compared by</th><th>C<sub>T</sub></th><th>Authenticity</th>"
        "<th>Authenticity of fresh images</th><th>Median distance to the nearest</th>"
        "<th>of fresh images</th>"
    )
    text = (
        f"{audit['n_fake']:,} generated images against {audit['n_train']:,} training images, "
        f"calibrated on {audit['n_held_out']:,} {audit['calibration']}: flagged "
        f"{audit['flagged']:,}, expected of fresh images {audit['flagged_expected']:.1f} "
        f"(p = {number(audit['p_value'])}). C_T is about 0 for fresh images and below -3 for "
        "copies; above 3 the images lie off the data. Authenticity is the share of images that "
        "are farther from their nearest training image than that one is from its own."
    )
    warned = "".join(f"<p>⚠ {_e(one)}</p>" for one in audit["warnings"])
    return (
        "<h2>Does it copy?</h2>"
        f"<p><b>{_e(audit['verdict'].capitalize())}.</b> {_e(text)}</p>{warned}"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div><h3>The closest pairs</h3>"
        '<p class="soft">Left: generated; right: its nearest training image. The most conspicuous '
        "first; the first pairs of any model look alike.</p>"
        f'<div class="pairs">{figures}</div>'
    )


def _space_row(name, space):
    return (
        f"<tr><td>{_e(name)}</td><td>{number(space['c_t'])}</td>"
        f"<td>{percent(space['authenticity'])}</td><td>{percent(space['authenticity_held_out'])}"
        f"</td><td>{number(space['nearest_distance'][1])}</td>"
        f"<td>{number(space['nearest_distance_held_out'][1])}</td></tr>"
    )


def _pair(pair, provenance):
    scale = max(1, 64 // max(pair["fake"].shape[:2]))
    left, right = (
        image.repeat(scale, 0).repeat(scale, 1) for image in (pair["fake"], pair["train"])
    )
    moved = ""
    if pair.get("flip"):
        moved += ", flipped"
    if any(pair.get("shift", ())):
        moved += f", moved by {pair['shift'][0]}, {pair['shift'][1]}"
    kind = "the same pixels" if pair["exact"] else f"p = {number(pair['p_value'])}"
    caption = (
        f"#{pair['fake_index']} and training image #{pair['train_index']}: {kind}; "
        f"{pair['space']}, distance {number(pair['distance'])}{moved}"
    )
    return (
        f"<figure><div>{_image(left, provenance, 'generated')}"
        f"{_image(right, None, 'training image')}</div><figcaption>{_e(caption)}</figcaption>"
        "</figure>"
    )


def _provenance(record):
    model, real, extractor = record["model"], record["real"], record["extractor"]
    settings = record["settings"]
    accuracy = extractor.get("accuracy")
    pairs = [
        ("Model", f"{model['name']} ({model['kind']})"),
        ("Read from", model["path"]),
        ("Weights", model["weights"]),
        ("Training steps", model["training_steps"]),
        ("Real images", f"{real['source']}, {real['n']:,} of {real['n_source']:,}"),
        ("Split", real["split"] or "not stated"),
        ("Held out", "none" if real["n_held_out"] is None else f"{real['n_held_out']:,} images"),
        ("Extractor", extractor["name"]),
        ("Its weights", extractor["weights"]),
        ("Its accuracy", None if accuracy is None else f"{percent(accuracy)} on held-out images"),
        ("Resize", extractor["resize"]),
        ("Features", extractor["dimension"]),
        ("Labels", settings["labels"]),
        ("Seed", settings["seed"]),
        ("Intervals", f"{settings['confidence']:.0%}, {settings['bootstrap']} random halves"),
        ("Seconds", ", ".join(f"{key} {value:g}" for key, value in record["seconds"].items())),
        ("Written by", f"keras_gen {record['keras_gen']}, {record['created']}"),
    ]
    items = "".join(
        f"<dt>{_e(key)}</dt><dd>{_e(str(value))}</dd>" for key, value in pairs if value is not None
    )
    return f"<dl>{items}</dl>"


# ---------------------------------------------------------------------------------------------
# Several models
# ---------------------------------------------------------------------------------------------


def comparison_page(comparison):
    """The page of a `Comparison`: str."""
    count = len(comparison.reports)
    title = f"{count} checkpoints" if comparison.curve else f"Comparison of {count} models"
    charts = "".join(_chart(comparison, metric) for metric in comparison.metrics)
    parts = [f"<h1>{title}</h1>", _comparison_table(comparison)]
    parts += [f'<div class="charts">{charts}</div>']
    parts += ["<h2>Each model</h2>"]
    for folder, (name, report) in zip(comparison.folders(), comparison.reports.items()):
        picture = grid(report.samples[:16], columns=16, padding=1)
        parts.append(
            f'<h3><a href="{_e(folder)}/report.html">{_e(name)}</a></h3>'
            f"{_image(picture, report.provenance, name)}{_findings(report.findings()[:4])}"
        )
    return _page(title, parts)


def _comparison_table(comparison):
    head = "<th>Model</th>" + "".join(
        f"<th>{_e(about(metric).title)}<br><small>{_DIRECTION[about(metric).better]}</small></th>"
        for metric in comparison.metrics
    )
    rows = []
    for name, report in comparison.reports.items():
        cells = "".join(f"<td>{_cell(comparison, m, name)}</td>" for m in comparison.metrics)
        rows.append(
            f'<tr><td class="name">{_e(name)}</td>{cells}<td>{_e(copies(report))}</td></tr>'
        )
    floors = "".join(f"<td>{number(comparison.floor(m))}</td>" for m in comparison.metrics)
    rows.append(f"<tr><td><i>other real images</i></td>{floors}<td></td></tr>")
    notes = "".join(
        f'<p class="soft">{_e(note.replace("**", ""))}</p>' for note in comparison.footnotes()
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}<th>Copies</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{notes}"
    )


def _cell(comparison, metric, name):
    one = comparison.points(metric).get(name)
    if one is None:
        return "–"
    best, close = comparison.best(metric)
    value = number(one["value"])
    value = f"<b>{value}</b>" if name == best else value
    value = f"≈ {value}" if name in close else value
    return f"{value}<br><small>{interval(one)}</small>"


def _chart(comparison, metric):
    """One metric of all models, with intervals and the floor: an inline SVG."""
    points = comparison.points(metric)
    if len(points) < 2:
        return ""
    names = list(comparison.reports)
    where = dict(zip(names, comparison.positions()))
    ranges = [one["interval"] or (one["value"], one["value"]) for one in points.values()]
    floor = comparison.floor(metric)
    floors = [] if floor is None else [floor]
    low = min([low for low, _ in ranges] + floors)
    high = max([high for _, high in ranges] + floors)
    margin = (high - low or abs(high) or 1) * 0.08
    low, high = low - margin, high + margin
    if not np.isfinite([low, high]).all():
        return ""
    width, height, left, right, top, bottom = 340, 190, 52, 12, 12, 30
    if not comparison.curve:
        where = {name: index for index, name in enumerate(names)}
    first, last = min(where.values()), max(where.values())
    pad = 0 if comparison.curve else 0.5

    def x(name):
        share = (where[name] - first + pad) / (last - first + 2 * pad)
        return left + share * (width - left - right)

    def y(value):
        return top + (high - value) / (high - low) * (height - top - bottom)

    shapes = [_axis(y, low, high, left, width - right)]
    if floors:
        shapes.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y(floor):.1f}" '
            f'y2="{y(floor):.1f}" stroke="var(--good)" stroke-dasharray="4 3"/>'
        )
    if comparison.curve:
        line = " ".join(f"{x(name):.1f},{y(one['value']):.1f}" for name, one in points.items())
        shapes.append(f'<polyline points="{line}" fill="none" stroke="var(--accent)"/>')
    for name, one in points.items():
        shapes.append(_point(x(name), y, name, one))
    shapes.append(_positions(names, where, x, comparison.curve, height))
    known = about(metric)
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{_e(known.title)}">'
        f"{''.join(shapes)}</svg><figcaption><b>{_e(known.title)}</b>, "
        f"{_DIRECTION[known.better]}{'; dashed: other real images' if floors else ''}</figcaption>"
        "</figure>"
    )


def _axis(y, low, high, left, right):
    lines = []
    for value in np.linspace(low, high, 4):
        lines.append(
            f'<line x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="var(--line)"/><text x="{left - 5}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:.3g}</text>'
        )
    return "".join(lines)


def _point(x, y, name, one):
    shape = ""
    if one["interval"] is not None:
        low, high = one["interval"]
        shape = (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" '
            'stroke="var(--accent)" stroke-width="1.5"/>'
        )
    title = f"{name}: {number(one['value'])}"
    return (
        f'{shape}<circle cx="{x:.1f}" cy="{y(one["value"]):.1f}" r="3.5" fill="var(--accent)">'
        f"<title>{_e(title)}</title></circle>"
    )


def _positions(names, where, x, curve, height):
    """Labels under a chart: the first and last position of a curve, or short names."""
    if curve:
        shown = [(names[0], "start"), (names[-1], "end")]
        texts = [(name, anchor, f"{where[name]:,}") for name, anchor in shown]
    else:
        room = max(4, 46 // len(names))
        texts = [
            (name, "middle", name if len(name) <= room else name[: room - 1] + "…")
            for name in names
        ]
    return "".join(
        f'<text x="{x(name):.1f}" y="{height - 10}" text-anchor="{anchor}">{_e(text)}</text>'
        for name, anchor, text in texts
    )


# ---------------------------------------------------------------------------------------------
# Parts of both
# ---------------------------------------------------------------------------------------------


def _page(title, parts):
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{_e(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _image(image, provenance, text):
    """An image as a data URI; with its provenance if it was generated."""
    if provenance is None:
        import tensorflow as tf

        png = tf.io.encode_png(image).numpy()
    else:
        png = encode_png(image, provenance)
    data = base64.b64encode(png).decode()
    height, width = image.shape[:2]
    return (
        f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{_e(text)}">'
    )


def _e(text):
    return html.escape(str(text), quote=True)
