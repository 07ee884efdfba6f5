"""Colours and style sheet of pages that show plans."""

__all__ = ["STEPS", "STYLE", "shade"]

STEPS = 10
"""Shades between white and the darkest."""

RIGHT, SURE = (24, 33, 45), (11, 72, 130)
"""Darkest shade of a plan that was right, and of a plan that is sure."""


def shade(value: float, dark: tuple[int, int, int]) -> tuple[str, str]:
    """Return the colours of background and text of a cell.

    Args:
        value: from 0 (white) to 1 (``dark``).
        dark: red, green and blue of the darkest shade, from 0 to 255.

    Returns:
        Two colours as ``#rrggbb``, with a contrast of at least 4.5 (WCAG 2, level AA).
    """
    back = [round(255 + value * (part - 255)) for part in dark]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (b / 255 for b in back)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Contrast to black is (luminance + 0.05) / 0.05, and to white 1.05 / (luminance + 0.05).
    text = "#000000" if (luminance + 0.05) ** 2 >= 0.05 * 1.05 else "#ffffff"
    return "#" + "".join(f"{part:02x}" for part in back), text


def _shades(name: str, dark: tuple[int, int, int], strength: float = 1.0) -> str:
    colours = [shade(strength * step / STEPS, dark) for step in range(STEPS + 1)]
    return "".join(f".nc {name}{step}{{background:{back};color:{text}}}\n" for step, (back, text) in enumerate(colours))


STYLE = (
    """.nc{color-scheme:light;background:#fff;color:#111;font:16px/1.5 system-ui,sans-serif;padding:0 4px 16px}
.nc h2{font-weight:700;font-size:1.25em;margin:1.6em 0 .3em}
.nc h3{font-weight:700;font-size:1em;margin:1.2em 0 .3em}
.nc p{margin:.3em 0;max-width:46em}
.nc table{border-collapse:separate;border-spacing:0 3px;display:block;overflow-x:auto;margin:.2em 0}
.nc th{text-align:left;vertical-align:top;font-weight:600;color:#444;padding:3px 8px}
.nc td{padding:3px 10px;border-radius:3px;vertical-align:top;color:#111;
 border-right:3px solid #fff;background-clip:padding-box}
.nc .w{font-family:ui-monospace,"DejaVu Sans Mono",monospace;white-space:pre-wrap;overflow-wrap:anywhere}
.nc .text{border-left:4px solid #ccd3db;padding:4px 12px;max-width:60em}
.nc .new{background:#fdf0c4;color:#111}
.nc .differs{border-left:5px solid #d9480f}
.nc .open{background:#fff;color:#333;outline:1px dashed #868e96;outline-offset:-1px}
.nc .stop{border:1px solid;border-radius:3px;padding:0 4px;margin-left:3px;font-size:.8em}
.nc .other{background:#ffd8a8;color:#111}
.nc .sources{display:flex;flex-wrap:wrap;gap:0 32px}
.nc .sources section{flex:1 1 17em;min-width:0}
.nc .but{display:block;font-size:.85em}
.nc .mark{color:#9a3412;font-weight:600}
.nc .note{background:#f1f3f5;color:#111;padding:6px 12px;border-radius:4px}
.nc tr.end th{border-bottom:2px solid #111;color:#111}
.nc .drafted{background:#b9e3c6;color:#111}
.nc td.c{background-image:linear-gradient(rgb(255 122 0/calc(var(--w)*1%)),rgb(255 122 0/calc(var(--w)*1%)))}
.nc td.c{position:relative}
.nc td.c::after{counter-reset:w var(--w);content:var(--s);position:absolute;top:-.5em;right:0;z-index:1;
 padding:0 4px;border-radius:3px;background:#111;color:#fff;font-size:.7em;pointer-events:none}
.nc .m span[class^=q],.nc .text span[class^=p]{cursor:help}
.nc .m span[class^=q]:hover,.nc .text span[class^=p]:hover{outline:2px solid #d9480f}
.nc-pictures{display:flex;flex-wrap:wrap;gap:8px 48px;background:#fff;color:#111}
.nc-pictures figure{margin:0}
.nc-pictures p{flex-basis:100%;margin:0}
.nc-pictures figcaption,.nc-pictures p{font:14px system-ui,sans-serif;color:#444}
.nc .key{display:inline-block;padding:0 10px;border-radius:3px}
"""
    + _shades(".r", RIGHT)
    + _shades(".s", SURE)
    # Plans that are barely read are pale.
    + _shades(".faded .r", RIGHT, 0.25)
    + _shades(".faded .s", SURE, 0.25)
)
"""Style sheet; everything lies in an element of the class ``nc``, and pictures of a task in
``nc-pictures``."""
